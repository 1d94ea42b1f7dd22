import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import { type IReading } from '../../labextension/src/runtime';
import { describe as inWords } from '../../labextension/src/statusbar/words';
import { gpu, reading, sample, status, view } from './messages';

const trans = nullTranslator.load('heliostat');

function words(changes: Partial<IReading> = {}, now = 5000) {
  return inWords(reading(changes), now, 2, trans);
}

function text(changes: Partial<IReading>, now?: number) {
  return words(changes, now)?.text;
}

describe('describe()', () => {
  it('should say nothing when the kernel has no runtime', () => {
    expect(words({ view: null })).toBeNull();
  });

  it('should show use against its limit with units when ready', () => {
    expect(text({})).toBe('Heliostat: ready · CPU 0.4 of 2 · 1.2 of 24 GiB');
  });

  it('should show the last finished step while starting, and no use', () => {
    const steps = [
      { name: 'gcs', at: 1, elapsed: 0.2 },
      { name: 'raylet', at: 1.2, elapsed: 0.41 }
    ];
    const starting = view({ status: status({ state: 'starting', steps }) });
    expect(text({ view: starting })).toBe('Heliostat: starting: raylet (0.4 s)');
    expect(text({ view: view({ status: status({ state: 'starting' }) }) })).toBe(
      'Heliostat: starting'
    );
  });

  it('should show why it failed, and what to do in the tooltip', () => {
    const failure = { what: 'disk full', action: 'Free some space.', log_tail: [] };
    const found = words({ view: view({ status: status({ state: 'failed', failure }) }) });
    expect(found?.text).toBe('Heliostat: failed: disk full');
    expect(found?.title).toContain('Free some space.');
    expect(found?.state).toBe('failed');
  });

  it('should grey figures that are old and show their age', () => {
    expect(words({}, 5005)?.stale).toBe(false);
    const old = words({ problem: 'Server away' }, 5012);
    expect(old?.stale).toBe(true);
    expect(old?.text).toContain('12 s old');
    expect(old?.title).toContain('Server away');
  });

  it('should count the age of a sample by the clock of the server', () => {
    const lagging = view({ at: 1020, sample: sample({ at: 1000 }) });
    expect(text({ view: lagging })).toContain('20 s old');
  });

  it('should say that there is no answer when there never was one', () => {
    const found = words({ view: null, problem: 'connection refused' });
    expect(found).toMatchObject({ text: 'Heliostat: no answer', title: 'connection refused' });
  });

  it('should show one GPU, sum up several, and leave out what is unknown', () => {
    const withGpus = (...gpus: ReturnType<typeof gpu>[]) =>
      text({ view: view({ sample: sample({ gpus }) }) });
    expect(withGpus(gpu())).toContain(' · GPU 35 % · GPU 3 of 80 GiB');
    expect(withGpus(gpu(), gpu({ utilization_percent: 45 }))).toContain(
      ' · 2 GPUs 40 % · 2 GPUs 6 of 160 GiB'
    );
    expect(withGpus(gpu(), gpu({ utilization_percent: null }))).not.toContain('%');
    expect(withGpus()).not.toContain('GPU');
  });

  it('should show what a resize waits for', () => {
    const none = { cpus: 2, gpus: 0, memory_bytes: 1, object_store_bytes: 1, nodes: 1 };
    const plan = {
      current: none,
      target: none,
      changes: [],
      losses: {},
      waits_for: [],
      warnings: [],
      estimated_seconds: 1,
      command: ''
    };
    const resize = {
      operation_id: 'o',
      state: 'waiting' as const,
      plan,
      started_at: 1,
      ended_at: null,
      current: none,
      waiting_for: ['2 CPUs'],
      message: ''
    };
    const resizing = view({ status: status({ state: 'resizing', resize }) });
    expect(text({ view: resizing })).toContain('resizing, waiting for 2 CPUs · CPU');
  });
});
