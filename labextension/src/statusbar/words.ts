/** Puts a runtime's state and use into words. Pure: what is shown is decided here. */
import { type TranslationBundle } from '@jupyterlab/translation';

import { type Gpu, type RuntimeState, type RuntimeStatus, type Sample } from '../messages';
import { type IReading, SECONDS_FRESH } from '../runtime';

/** What the status bar shows. */
export interface IWords {
  readonly text: string;
  /** The same in full, for the tooltip. */
  readonly title: string;
  readonly state: RuntimeState | 'unreachable';
  /** Whether the figures are too old to be trusted. */
  readonly stale: boolean;
}

const GIB = 2 ** 30;
/** A reading is stale after this many intervals, but not before SECONDS_FRESH. */
const INTERVALS_FRESH = 3;

/**
 * Describe a reading as of `now` (seconds of the browser's clock), or return `null` when there
 * is no runtime to speak of.
 */
export function describe(
  reading: IReading,
  now: number,
  interval: number,
  trans: TranslationBundle
): IWords | null {
  const { view, problem } = reading;
  if (view === null) {
    const text = trans.__('Heliostat: no answer');
    return problem === null ? null : { text, title: problem, state: 'unreachable', stale: false };
  }
  const { status, sample, at } = view;
  const sinceAnswer = Math.max(0, now - reading.receivedAt);
  const age = sinceAnswer + (sample ? Math.max(0, at - sample.at) : 0);
  const stale = age > Math.max(SECONDS_FRESH, INTERVALS_FRESH * interval);
  const use = sample && isUsable(status.state) ? describeUse(sample, trans) : [];
  const parts = [trans.__('Heliostat: %1', describeState(status, trans)), ...use];
  if (stale) {
    parts.push(trans.__('%1 s old', Math.round(age).toString()));
  }
  const text = parts.join(' · ');
  const more = [describeReason(status), problem].filter(Boolean);
  return { text, title: [text, ...more].join('\n'), state: status.state, stale };
}

/** The state in a word or two, with the step, the wait or the reason where there is one. */
export function describeState(status: RuntimeStatus, trans: TranslationBundle): string {
  switch (status.state) {
    case 'starting': {
      const step = status.steps.at(-1);
      return step
        ? trans.__('starting: %1 (%2 s)', step.name, step.elapsed.toFixed(1))
        : trans.__('starting');
    }
    case 'ready':
      return trans.__('ready');
    case 'resizing': {
      const waits = status.resize?.waiting_for ?? [];
      return waits.length > 0
        ? trans.__('resizing, waiting for %1', waits.join(', '))
        : trans.__('resizing');
    }
    case 'degraded':
      return trans.__('degraded: %1', status.reason);
    case 'stopping':
      return trans.__('stopping');
    case 'stopped':
      return trans.__('stopped');
    case 'failed':
      return trans.__('failed: %1', status.failure?.what ?? status.reason);
  }
}

/** CPUs, memory and GPUs in use, each with its limit and unit. What is unknown is left out. */
export function describeUse(sample: Sample, trans: TranslationBundle): string[] {
  const { host, gpus } = sample;
  const cpus = trans.__('CPU %1 of %2', short(host.cpu_percent / 100), short(host.cpus));
  const memory = ofGib(host.memory_used_bytes, host.memory_limit_bytes, trans);
  return [cpus, memory, ...(gpus && gpus.length > 0 ? describeGpus(gpus, trans) : [])];
}

function describeGpus(gpus: Gpu[], trans: TranslationBundle): string[] {
  const name = gpus.length === 1 ? trans.__('GPU') : trans.__('%1 GPUs', gpus.length.toString());
  const use = known(gpus.map(gpu => gpu.utilization_percent));
  const used = known(gpus.map(gpu => gpu.memory_used_bytes));
  const limits = known(gpus.map(gpu => gpu.memory_limit_bytes));
  const parts: string[] = [];
  if (use) {
    parts.push(trans.__('%1 %2 %', name, Math.round(sum(use) / use.length).toString()));
  }
  if (used && limits) {
    parts.push(trans.__('%1 %2', name, ofGib(sum(used), sum(limits), trans)));
  }
  return parts.length > 0 ? parts : [name];
}

function describeReason(status: RuntimeStatus): string {
  return [status.reason, status.failure?.action].filter(Boolean).join(' ');
}

function isUsable(state: RuntimeState): boolean {
  return state === 'ready' || state === 'resizing' || state === 'degraded';
}

/** All the values, or `null` when one of them is unknown: a sum of some would be wrong. */
function known(values: (number | null)[]): number[] | null {
  const found = values.filter(value => value !== null);
  return found.length === values.length ? found : null;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function ofGib(used: number, limit: number, trans: TranslationBundle): string {
  return trans.__('%1 of %2 GiB', short(used / GIB), short(limit / GIB));
}

/** One decimal below ten, and none when it would be a zero: 0.4, 1.2, 2, 24. */
function short(value: number): string {
  return value < 10 ? value.toFixed(1).replace(/\.0$/, '') : value.toFixed(0);
}
