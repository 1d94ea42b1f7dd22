// @vitest-environment jsdom
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import React from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { beforeEach, describe, expect, it, vi } from 'vitest';

import { type ResizePlan, type ResizeTarget } from '../../labextension/src/messages';
import { PanelModel } from '../../labextension/src/panel/model';
import { PanelBody } from '../../labextension/src/panel/body';
import { type IPanelActions } from '../../labextension/src/panel/tokens';
import {
  type IReading,
  type IRuntimeApi,
  type IRuntimeManager
} from '../../labextension/src/runtime';
import {
  account,
  gpu,
  node,
  plan,
  reading,
  resources,
  sample,
  status,
  view,
  work
} from './messages';

const trans = nullTranslator.load('heliostat');

/** A manager that knows what a test gives it, and notes what is asked. */
class Known {
  api = {
    plan: vi.fn<(kernelId: string, target: ResizeTarget) => Promise<ResizePlan>>(() =>
      Promise.resolve(plan())
    ),
    resize: vi.fn(() => Promise.resolve()),
    restart: vi.fn(() => Promise.resolve()),
    stop: vi.fn(() => Promise.reject(new Error('It is gone. Start another.'))),
    cancelWork: vi.fn(() => Promise.resolve()),
    stopRank: vi.fn(() => Promise.resolve()),
    workLog: vi.fn(() => Promise.resolve({ lines: ['epoch 1'] })),
    log: vi.fn(() => Promise.resolve({ lines: ['first', 'second'] }))
  };
  connection = 'open';
  interval = 1;
  reading = reading({
    view: view({ status: status({ resources: resources(), limits: resources() }) })
  });
  changed = new Signal<this, IReading>(this);

  learn(changes: Partial<IReading>): void {
    this.reading = { ...this.reading, ...changes };
    this.changed.emit(this.reading);
  }
}

let known: Known;
let actions: IPanelActions;
let model: PanelModel;
let saved: unknown[];

beforeEach(() => {
  known = new Known();
  saved = [];
  actions = {
    run: () => Promise.resolve(),
    insert: () => undefined,
    copy: () => undefined,
    reveal: () => undefined,
    nameOfKernel: id => ({ k1: 'train.ipynb', k2: 'other.ipynb' })[id] ?? null,
    describeCell: id => (id === 'c1' ? '[1] model.fit()' : null),
    confirm: () => Promise.resolve(true),
    save: settings => saved.push(settings)
  };
  const manager = known as unknown as IRuntimeManager & { api: IRuntimeApi };
  model = new PanelModel({ actions, manager, trans });
  model.isVisible = true;
});

function html(): string {
  return renderToStaticMarkup(React.createElement(PanelBody, { model }));
}

describe('PanelModel', () => {
  it('should plan what was chosen last, once the clicks have ended', async () => {
    model.choose({ cpus: 3 });
    model.choose({ cpus: 4 });
    await vi.waitFor(() => {
      expect(model.plan).toEqual(plan());
    });
    expect(known.api.plan.mock.calls).toEqual([['k1', { cpus: 4 }]]);
  });

  it('should need no plan for the size that is there', () => {
    model.choose({ cpus: 3 });
    model.choose({ cpus: 2 });
    expect(model.target).toEqual({});
    expect(html()).not.toContain('Apply');
  });

  it('should apply what was planned and forget it', async () => {
    model.choose({ cpus: 4 });
    await model.apply();
    expect(known.api.resize.mock.calls).toEqual([['k1', { target: { cpus: 4 }, force: false }]]);
    expect(model.target).toEqual({});
  });

  it('should show why a size cannot be had', async () => {
    known.api.plan.mockRejectedValue(new Error('There are 2 CPUs. Ask for less.'));
    model.choose({ cpus: 99 });
    await vi.waitFor(() => {
      expect(html()).toContain('There are 2 CPUs. Ask for less.');
    });
  });

  it('should ask before it restarts, and say what went wrong when it stops', async () => {
    actions.confirm = () => Promise.resolve(false);
    await model.restart();
    expect(known.api.restart).not.toHaveBeenCalled();
    actions.confirm = () => Promise.resolve(true);
    await model.stop();
    expect(model.problem).toBe('It is gone. Start another.');
    expect(model.busy).toBeNull();
  });

  it('should forget what was chosen when another kernel is followed', () => {
    model.choose({ cpus: 4 });
    known.learn({ kernelId: 'k2' });
    expect(model.target).toEqual({});
  });

  it('should keep the arrangement of the sections', () => {
    model.fold('use', true);
    model.move('cells', -1);
    expect(model.isFolded('use')).toBe(true);
    expect(saved).toEqual([
      { folded: ['use'] },
      { sections: ['runtime', 'use', 'resize', 'cells', 'work'] }
    ]);
  });
});

describe('PanelBody', () => {
  it('should say what to do where the kernel has no runtime', () => {
    known.learn({ view: null, isKnown: true });
    expect(html()).toContain('%load_ext heliostat');
    known.learn({ view: null, isKnown: false });
    expect(html()).toContain('Looking for the runtime');
    known.learn({ kernelId: null });
    expect(html()).toContain('Open a notebook or a console.');
  });

  it('should show the steps of a boot', () => {
    const steps = [{ name: 'raylet up', at: 1, elapsed: 2.1 }];
    known.learn({ view: view({ status: status({ state: 'starting', steps }) }) });
    expect(html()).toContain('raylet up <span>2.1 s</span>');
  });

  it('should show a failure with what to do and the end of the log', () => {
    const failure = { what: 'No disk.', action: 'Free some.', log_tail: ['last words'] };
    known.learn({ view: view({ status: status({ state: 'failed', failure }) }) });
    const shown = html();
    expect(shown).toContain('No disk.');
    expect(shown).toContain('Free some.');
    expect(shown).toContain('last words');
  });

  it('should say how the kernel died', () => {
    known.learn({ kernelEnd: { at: 1, what: 'The kernel was killed.', action: 'Hold less.' } });
    expect(html()).toContain('The kernel was killed.');
  });

  it('should say how old the figures are', () => {
    const old = sample({ at: 1000 });
    known.learn({
      view: view({ at: 1010, sample: old }),
      history: [old],
      receivedAt: Date.now() / 1000 - 60
    });
    expect(html()).toMatch(/These figures are \d+ s old\./);
    expect(html()).toContain('data-stale="true"');
  });

  it('should say what waits for resources, and who has them', () => {
    const ray = {
      cpus: 2,
      cpus_used: 2,
      gpus: 0,
      gpus_used: 0,
      memory_bytes: 1,
      memory_used_bytes: 0,
      object_store_bytes: 1,
      object_store_used_bytes: 0,
      pending: ['1 task that needs 2 CPUs'],
      holders: ['rank 0 (1 CPU)', 'running tasks (1 CPU)']
    };
    const latest = sample({ at: Date.now() / 1000, ray });
    known.learn({
      view: view({ at: latest.at, sample: latest }),
      history: [latest],
      receivedAt: Date.now() / 1000,
      cells: [account({ cell_id: 'c1', ended_at: null })]
    });
    expect(html()).toContain('Waiting for resources: 1 task that needs 2 CPUs.');
    expect(html()).toContain(
      'In use: 2 of 2 CPUs, by rank 0 (1 CPU), running tasks (1 CPU), while [1] model.fit() runs.'
    );
  });

  it('should show GPUs with who is on them, MIG slices by name, and unknown values as a dash', () => {
    const process = { pid: 7, memory_bytes: null, role: 'worker', name: 'rank 3' };
    const other = { pid: 8, memory_bytes: 1, role: null, name: 'python', kernel_id: 'k2' };
    const stranger = { pid: 9, memory_bytes: 1, role: null, name: null };
    const latest = sample({
      gpus: [
        gpu({ processes: [process, other, stranger], temperature_celsius: 41 }),
        gpu({ uuid: 'm', index: 1, mig: true, processes: null })
      ]
    });
    known.learn({ view: view({ sample: latest }), history: [latest] });
    const shown = html();
    expect(shown).toContain('GPU 0: H200');
    expect(shown).toContain('41 °C');
    expect(shown).toContain('rank 3 <span class="heliostat-Quiet">· train.ipynb');
    expect(shown).toContain('python <span class="heliostat-Quiet">· other.ipynb');
    expect(shown).toContain('process 9 <span class="heliostat-Quiet">· no notebook of yours');
    expect(shown).toContain('MIG slice');
    expect(shown).toContain('The driver does not say who is on it.');
  });

  it('should show each node once there are several', () => {
    known.learn({ nodes: [node({ name: 'one' })] });
    expect(html()).not.toContain('heliostat-node');
    const many = Array.from({ length: 100 }, (_, index) => node({ node_id: index.toString() }));
    known.learn({ nodes: many });
    expect(html().split('data-testid="heliostat-node"')).toHaveLength(101);
  });

  it('should show what cells used, and the gone ones without a link', () => {
    known.learn({ cells: [account({ cell_id: 'c1' }), account({ cell_id: 'gone' })] });
    const shown = html();
    expect(shown).toContain('[1] model.fit()');
    expect(shown).toContain('a cell that is gone');
    expect(shown).toContain('512 MiB');
  });

  it('should show a plan with its losses and the line of code', async () => {
    known.api.plan.mockResolvedValue(plan({ losses: { actors: 2, object_bytes: 1288490189 } }));
    model.choose({ nodes: 2 });
    await vi.waitFor(() => {
      expect(html()).toContain('Concerns 2 actors, 1.2 GiB of objects.');
    });
    expect(html()).toContain('%resize cpus=4');
  });

  it('should show a resize under way with what it waits for', () => {
    const operation = {
      operation_id: 'o1',
      state: 'waiting' as const,
      plan: plan(),
      started_at: 1,
      ended_at: null,
      current: resources(),
      waiting_for: ['2 CPUs'],
      message: ''
    };
    known.learn({
      view: view({
        status: status({ state: 'resizing', resources: resources(), resize: operation })
      })
    });
    expect(html()).toContain('Waiting for 2 CPUs.');
    expect(html()).toContain('Cancel and go back');
  });

  it('should show running work with its progress, metrics, workers and time left', () => {
    known.learn({ work: [work()], ahead: 0 });
    const shown = html();
    expect(shown).toMatch(/20 of 50 rounds, 10 s, about 15 s left/);
    expect(shown).toContain('train-rmse 0.1235');
    expect(shown).toContain('1,000 rows · 1 GiB');
    expect(shown).toContain('max="50"');
  });

  it('should keep finished work with how it ended, and offer no cancelling', () => {
    const ended = {
      state: 'failed' as const,
      message: 'Rank 1 died.',
      ended_at: Date.now() / 1000
    };
    known.learn({ work: [work(ended)] });
    expect(html()).toContain('failed, 20 of 50 rounds, 10 s');
    expect(html()).toContain('Rank 1 died.');
    expect(html()).not.toContain('Cancel');
  });

  it('should cancel work, and show its log', async () => {
    known.learn({ work: [work()] });
    await model.cancelWork('w1');
    expect(known.api.cancelWork.mock.calls).toEqual([['k1', 'w1']]);
    known.learn({ work: [work({ cancel_requested: true })] });
    expect(html()).toContain('Cancelling…');
    await model.toggleWorkLog('w1');
    expect(html()).toContain('epoch 1');
    await model.toggleWorkLog('w1');
    expect(html()).not.toContain('epoch 1');
  });

  it('should list ranks with what they run and hold, and stop one that is busy', async () => {
    const latest = sample({
      processes: [
        {
          pid: 11,
          name: 'rank 0',
          role: 'worker',
          cpu_seconds: 1,
          cpu_percent: 98,
          memory_bytes: 2 ** 30
        }
      ],
      gpus: [gpu({ processes: [{ pid: 11, memory_bytes: 2 ** 31, role: 'worker', name: 'r' }] })]
    });
    known.learn({
      view: view({ sample: latest }),
      ranks: [
        { rank: 0, state: 'busy', pid: 11, doing: 'loss = step(batch)' },
        { rank: 1, state: 'idle' }
      ]
    });
    const shown = html();
    expect(shown).toContain('98 %, 1 GiB, GPU 0: 2 GiB');
    expect(shown).toContain('loss = step(batch)');
    expect(shown.match(/disabled="">Stop</g)).toHaveLength(1);
    await model.stopRank(0);
    expect(known.api.stopRank.mock.calls).toEqual([['k1', 0]]);
    known.learn({ ranks: [{ rank: 0, state: 'busy', stop_requested: true }] });
    expect(html()).toContain('Stopping…');
  });

  it('should leave the size of a foreign cluster alone', () => {
    known.learn({
      view: view({ status: status({ provider: 'attached', resources: resources() }) })
    });
    expect(html()).toContain('resize it where it was started');
  });
});
