import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import {
  alarms,
  gpuFigures,
  hostFigures,
  secondsToFull
} from '../../labextension/src/panel/figures';
import { bytes, digits, duration, percent } from '../../labextension/src/panel/format';
import { moved, ordered } from '../../labextension/src/panel/sections';
import { gpu, sample } from './messages';

const GIB = 2 ** 30;
const trans = nullTranslator.load('heliostat');
const options = { units: 'binary', thresholds: { high: 0.8, critical: 0.93 }, trans } as const;

/** Readings once a second whose memory starts at `first` GiB and grows by `rate`. */
function filling(first: number, rate: number, count = 30) {
  return Array.from({ length: count }, (_, second) => {
    const base = sample({ at: 1000 + second });
    const used = Math.round((first + rate * second) * GIB);
    return { ...base, host: { ...base.host, memory_used_bytes: used } };
  });
}

describe('hostFigures', () => {
  it('should tell values against their limits, and leave out what is not known at all', () => {
    const figures = hostFigures([sample()], options);
    expect(figures.map(({ id, text }) => [id, text])).toEqual([
      ['cpu', '0.4 of 2 CPUs'],
      ['memory', '1.2 GiB of 24 GiB']
    ]);
  });

  it('should call full memory by its level and a busy CPU by none', () => {
    const base = sample();
    const host = { ...base.host, cpu_percent: 200, memory_used_bytes: 23 * GIB };
    const levels = hostFigures([{ ...base, host }], options).map(({ level, detail }) => [
      level,
      detail
    ]);
    expect(levels).toEqual([
      ['normal', ''],
      ['critical', 'almost full']
    ]);
  });
});

describe('gpuFigures', () => {
  it('should follow one GPU by its uuid, with gaps where it was not there', () => {
    const other = gpu({ uuid: 'GPU-1', utilization_percent: 90 });
    const history = [sample({ at: 1 }), sample({ at: 2, gpus: [gpu(), other] })];
    const [use, memory] = gpuFigures(other, history, options);
    expect(use?.points).toEqual([
      { at: 1, value: null },
      { at: 2, value: 90 }
    ]);
    expect(use?.text).toBe('90 %');
    expect(memory?.text).toBe('3 GiB of 80 GiB');
  });
});

describe('alarms', () => {
  it('should warn when memory is full within a minute at this rate', () => {
    const figures = hostFigures(filling(12, 0.2), options);
    expect(alarms(figures, trans)).toEqual([
      'Memory is full in about 31 s at this rate (18 GiB of 24 GiB now).'
    ]);
  });

  it('should stay silent for a slow rise, a low level, a fall and a short trend', () => {
    for (const history of [
      filling(18, 0.01),
      filling(1, 0.1),
      filling(20, -0.1),
      filling(20, 1, 3)
    ]) {
      expect(alarms(hostFigures(history, options), trans)).toEqual([]);
    }
  });

  it('should not warn of a CPU or a GPU that is fully used', () => {
    const busy = filling(1, 0).map((each, second) => ({
      ...each,
      host: { ...each.host, cpu_percent: 50 + 5 * second },
      gpus: [gpu({ utilization_percent: 40 + 2 * second })]
    }));
    const device = gpu();
    const figures = [...hostFigures(busy, options), ...gpuFigures(device, busy, options)];
    expect(alarms(figures, trans)).toEqual([]);
  });

  it('should not guess from values that are not known', () => {
    const points = [1, 2, 3].map(second => ({ at: 20 * second, value: null }));
    expect(secondsToFull(points, 10)).toBeNull();
  });
});

describe('format', () => {
  it('should give every figure a unit, and a dash for what is not known', () => {
    expect(bytes(null)).toBe('–');
    expect(bytes(0)).toBe('0 B');
    expect(bytes(1536)).toBe('1.5 KiB');
    expect(bytes(1536, 'decimal')).toBe('1.5 kB');
    expect(bytes(24 * GIB)).toBe('24 GiB');
    expect(percent(undefined)).toBe('–');
    expect(digits(9.96)).toBe('10');
  });

  it('should write durations as people say them', () => {
    const said = [0.25, 8, 65, 120, 3600, 12_000].map(seconds => duration(seconds, trans));
    expect(said).toEqual(['250 ms', '8 s', '1 min 5 s', '2 min', '1 h', '3 h 20 min']);
  });
});

describe('sections', () => {
  it('should list each once, those that are named first', () => {
    expect(ordered(['cells', 'nonsense', 'cells'])).toEqual([
      'cells',
      'runtime',
      'use',
      'resize',
      'work'
    ]);
  });

  it('should move one past its neighbour, and none past the ends', () => {
    expect(moved(['runtime', 'use', 'cells'], 'use', -1)).toEqual(['use', 'runtime', 'cells']);
    expect(moved(['runtime', 'use'], 'use', 1)).toEqual(['runtime', 'use']);
  });
});
