/** What is measured, as series against the limit that counts. Pure: the charts only draw. */
import { type TranslationBundle } from '@jupyterlab/translation';

import { type Gpu, type Sample } from '../messages';
import { type ByteUnits, bytes, digits, duration, percent } from './format';

/** One value at a time; `null` where it was not known. */
export interface IPoint {
  readonly at: number;
  readonly value: number | null;
}

/** How much of a limit is used. */
export type Level = 'normal' | 'high' | 'critical';

/** Shares of a limit from which use is called high, and critical. */
export interface IThresholds {
  readonly high: number;
  readonly critical: number;
}

/** One quantity over time. */
export interface IFigure {
  readonly id: string;
  readonly label: string;
  readonly points: readonly IPoint[];
  /** What it cannot pass; `null` where there is none that is known. */
  readonly limit: number | null;
  readonly level: Level;
  /** Whether something ends when the limit is reached. */
  readonly isHarmful: boolean;
  /** The latest value and its limit, with units. */
  readonly text: string;
  /** More about the latest value, in words. */
  readonly detail: string;
  readonly format: (value: number) => string;
}

/** What the figures are made with. */
export interface IFigureOptions {
  readonly units: ByteUnits;
  readonly thresholds: IThresholds;
  readonly trans: TranslationBundle;
}

/** Trends shorter than this are noise. */
const TREND_SECONDS = 10;
/** Readings that a trend looks back on. */
const TREND_POINTS = 30;
/** Full sooner than this is worth a warning. */
const ALARM_SECONDS = 60;
/** Below this share of the limit a steep rise is ordinary work. */
const ALARM_SHARE = 0.5;

/** A busy CPU or GPU is what one pays for. */
const NEVER_CRITICAL = { level: 'normal', detail: '', isHarmful: false } as const;

export function levelOf(
  value: number | null,
  limit: number | null,
  thresholds: IThresholds
): Level {
  if (value === null || limit === null || limit <= 0) {
    return 'normal';
  }
  const share = value / limit;
  return share >= thresholds.critical ? 'critical' : share >= thresholds.high ? 'high' : 'normal';
}

/** CPU, memory, object store, shared memory and disk; what is not known at all is left out. */
export function hostFigures(history: readonly Sample[], options: IFigureOptions): IFigure[] {
  const { trans } = options;
  const latest = history.at(-1);
  if (!latest) {
    return [];
  }
  const { host, ray } = latest;
  const cpu = figure('cpu', trans.__('CPU'), history, s => s.host.cpu_percent / 100, host.cpus, {
    ...options,
    format: value => trans.__('%1 CPUs', digits(value)),
    tell: (value, limit) => trans.__('%1 of %2 CPUs', digits(value), digits(limit))
  });
  const size = (
    id: string,
    label: string,
    pick: (sample: Sample) => number | null,
    limit: number | null
  ): IFigure =>
    figure(id, label, history, pick, limit, {
      ...options,
      format: value => bytes(value, options.units)
    });
  const found = [
    { ...cpu, ...NEVER_CRITICAL },
    size('memory', trans.__('Memory'), s => s.host.memory_used_bytes, host.memory_limit_bytes)
  ];
  if (ray) {
    const limit = ray.object_store_bytes;
    found.push(
      size('objects', trans.__('Object store'), s => s.ray?.object_store_used_bytes ?? null, limit)
    );
  }
  if (host.shm_limit_bytes !== null) {
    found.push(size('shm', trans.__('/dev/shm'), s => s.host.shm_used_bytes, host.shm_limit_bytes));
  }
  if (host.disk_limit_bytes !== null) {
    found.push(
      size('disk', trans.__('Spill disk'), s => s.host.disk_used_bytes, host.disk_limit_bytes)
    );
  }
  return found;
}

/** Use and memory of one GPU over time. */
export function gpuFigures(
  gpu: Gpu,
  history: readonly Sample[],
  options: IFigureOptions
): IFigure[] {
  const { trans } = options;
  const of = (sample: Sample): Gpu | undefined =>
    sample.gpus?.find(candidate => candidate.uuid === gpu.uuid);
  const use = figure(
    `${gpu.uuid}-use`,
    trans.__('Use'),
    history,
    sample => of(sample)?.utilization_percent ?? null,
    100,
    { ...options, format: percent, tell: percent }
  );
  const memory = figure(
    `${gpu.uuid}-memory`,
    trans.__('Memory'),
    history,
    sample => of(sample)?.memory_used_bytes ?? null,
    gpu.memory_limit_bytes,
    { ...options, format: value => bytes(value, options.units) }
  );
  return [{ ...use, ...NEVER_CRITICAL }, memory];
}

function figure(
  id: string,
  label: string,
  history: readonly Sample[],
  pick: (sample: Sample) => number | null,
  limit: number | null,
  options: IFigureOptions & {
    format: (value: number) => string;
    tell?: (value: number, limit: number) => string;
  }
): IFigure {
  const { trans, format, thresholds } = options;
  const tell =
    options.tell ??
    ((used: number, most: number) => trans.__('%1 of %2', format(used), format(most)));
  const points = history.map(sample => ({ at: sample.at, value: pick(sample) }));
  const value = points.at(-1)?.value ?? null;
  const level = levelOf(value, limit, thresholds);
  const alone = value === null ? trans.__('not known') : format(value);
  const text = limit === null || value === null ? alone : tell(value, limit);
  const words = { normal: '', high: trans.__('high'), critical: trans.__('almost full') };
  return { id, label, points, limit, level, isHarmful: true, text, detail: words[level], format };
}

/**
 * Seconds until a series reaches its limit at the rate of the last half minute, or `null` when
 * that is not in sight.
 */
export function secondsToFull(points: readonly IPoint[], limit: number | null): number | null {
  const recent = points.slice(-TREND_POINTS).filter(isKnown);
  const first = recent[0];
  const last = recent.at(-1);
  if (!first || !last || limit === null || last.at - first.at < TREND_SECONDS) {
    return null;
  }
  const meanAt = mean(recent.map(point => point.at));
  const meanValue = mean(recent.map(point => point.value));
  let above = 0;
  let below = 0;
  for (const { at, value } of recent) {
    above += (at - meanAt) * (value - meanValue);
    below += (at - meanAt) ** 2;
  }
  const rate = above / below;
  return rate > 0 ? Math.max(0, (limit - last.value) / rate) : null;
}

/** Sentences about what is about to go wrong. */
export function alarms(figures: readonly IFigure[], trans: TranslationBundle): string[] {
  const found: string[] = [];
  for (const { label, points, limit, text } of figures.filter(figure => figure.isHarmful)) {
    const value = points.at(-1)?.value ?? null;
    if (value === null || limit === null || value < ALARM_SHARE * limit) {
      continue;
    }
    const seconds = secondsToFull(points, limit);
    if (seconds !== null && seconds < ALARM_SECONDS) {
      const left = duration(Math.round(seconds), trans);
      found.push(trans.__('%1 is full in about %2 at this rate (%3 now).', label, left, text));
    }
  }
  return found;
}

function isKnown(point: IPoint): point is { at: number; value: number } {
  return point.value !== null;
}

function mean(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0) / values.length;
}
