/** Figures as people read them: always with a unit, and a dash for what is not known. */
import { type TranslationBundle } from '@jupyterlab/translation';

/** How amounts of memory are written. */
export type ByteUnits = 'binary' | 'decimal';

const DASH = '–';
const NAMES: Record<ByteUnits, readonly string[]> = {
  binary: ['B', 'KiB', 'MiB', 'GiB', 'TiB'],
  decimal: ['B', 'kB', 'MB', 'GB', 'TB']
};

/** `1.2 GiB`; three digits at the most, none of them invented. */
export function bytes(value: number | null | undefined, units: ByteUnits = 'binary'): string {
  if (value === null || value === undefined) {
    return DASH;
  }
  const base = units === 'binary' ? 1024 : 1000;
  const names = NAMES[units];
  let size = value;
  let index = 0;
  while (Math.abs(size) >= base && index < names.length - 1) {
    size /= base;
    index += 1;
  }
  return `${index === 0 ? size.toFixed(0) : digits(size)} ${names[index] ?? ''}`;
}

/** One decimal below ten, and none where it would be a zero. */
export function digits(value: number | null | undefined): string {
  if (value === null || value === undefined) {
    return DASH;
  }
  return Math.abs(value) < 9.95 ? value.toFixed(1).replace(/\.0$/, '') : value.toFixed(0);
}

export function percent(value: number | null | undefined): string {
  return value === null || value === undefined ? DASH : `${value.toFixed(0)} %`;
}

/** `40 ms`, `8 s`, `2 min 5 s`, `3 h 20 min`. */
export function duration(seconds: number, trans: TranslationBundle): string {
  const whole = Math.max(0, Math.round(seconds));
  if (seconds > 0 && seconds < 0.9995) {
    return trans.__('%1 ms', Math.max(1, Math.round(1000 * seconds)).toString());
  }
  if (seconds < 9.95 && seconds % 1 !== 0) {
    return trans.__('%1 s', digits(Math.max(0, seconds)));
  }
  if (whole < 60) {
    return trans.__('%1 s', whole.toString());
  }
  if (whole < 3600) {
    const rest = whole % 60;
    const minutes = Math.floor(whole / 60).toString();
    return rest ? trans.__('%1 min %2 s', minutes, rest.toString()) : trans.__('%1 min', minutes);
  }
  const minutes = Math.floor(whole / 60) % 60;
  const hours = Math.floor(whole / 3600).toString();
  return minutes ? trans.__('%1 h %2 min', hours, minutes.toString()) : trans.__('%1 h', hours);
}
