/** One quantity over the last minutes: a line, the area below it, its limit, and values on hover. */
import { type TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import { type IFigure, type IPoint } from './figures';
import { duration } from './format';

const WIDTH = 300;
const HEIGHT = 32;
const TOP = 3;
/** Two readings further apart than so many usual steps have nothing known between them. */
const GAP_STEPS = 5;

export interface IChartProps {
  readonly figure: IFigure;
  /** Right end of the time axis, in the server's seconds. */
  readonly now: number;
  /** Length of the time axis. */
  readonly seconds: number;
  readonly trans: TranslationBundle;
}

/** Draws a figure. Arrow keys move the reading as the mouse does. */
export function Chart({ figure, now, seconds, trans }: IChartProps): React.JSX.Element {
  const [chosen, setChosen] = React.useState<number | null>(null);
  const points = figure.points.filter(point => point.at >= now - seconds);
  const peak = Math.max(0, ...points.map(point => point.value ?? 0));
  const top = Math.max(figure.limit ?? peak, peak, Number.MIN_VALUE);
  const x = (at: number): number => WIDTH * (1 - (now - at) / seconds);
  const y = (value: number): number => TOP + (HEIGHT - TOP) * (1 - value / top);
  const runs = split(points).map(run => run.map(point => [x(point.at), y(point.value ?? 0)]));
  const shown = chosen === null ? undefined : points[chosen];
  const choose = (event: React.MouseEvent<SVGSVGElement>): void => {
    const { left, width } = event.currentTarget.getBoundingClientRect();
    const at = now - seconds * (1 - (event.clientX - left) / width);
    setChosen(nearest(points, at));
  };
  const move = (event: React.KeyboardEvent<SVGSVGElement>): void => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step !== undefined && points.length > 0) {
      event.preventDefault();
      setChosen(Math.min(points.length - 1, Math.max(0, (chosen ?? points.length - 1) + step)));
    }
  };
  return (
    <div className="heliostat-Chart" data-level={figure.level}>
      <svg
        viewBox={`0 0 ${WIDTH.toString()} ${HEIGHT.toString()}`}
        preserveAspectRatio="none"
        role="img"
        tabIndex={0}
        aria-label={trans.__(
          '%1: %2; at most %3 in the last %4',
          figure.label,
          figure.text,
          figure.format(peak),
          duration(seconds, trans)
        )}
        onMouseMove={choose}
        onMouseLeave={() => {
          setChosen(null);
        }}
        onBlur={() => {
          setChosen(null);
        }}
        onKeyDown={move}
      >
        {figure.limit !== null && (
          <line
            className="heliostat-Chart-limit"
            x1={0}
            x2={WIDTH}
            y1={y(figure.limit)}
            y2={y(figure.limit)}
          />
        )}
        {runs.map((run, index) => (
          <React.Fragment key={index}>
            <polygon className="heliostat-Chart-area" points={area(run)} />
            <polyline className="heliostat-Chart-line" points={join(run)} />
          </React.Fragment>
        ))}
        {shown && (
          <line
            className="heliostat-Chart-cursor"
            x1={x(shown.at)}
            x2={x(shown.at)}
            y1={0}
            y2={HEIGHT}
          />
        )}
      </svg>
      {shown && (
        <span className="heliostat-Chart-value" role="status">
          {trans.__(
            '%1, %2 ago',
            shown.value === null ? trans.__('not known') : figure.format(shown.value),
            duration(Math.round(now - shown.at), trans)
          )}
        </span>
      )}
    </div>
  );
}

/** Runs without a gap: what is not known is not drawn. */
function split(points: readonly IPoint[]): IPoint[][] {
  const steps = points.slice(1).map((point, index) => point.at - (points[index]?.at ?? point.at));
  const usual = [...steps].sort((a, b) => a - b)[Math.floor(steps.length / 2)] ?? 1;
  const runs: IPoint[][] = [];
  let run: IPoint[] = [];
  for (const point of points) {
    const before = run.at(-1);
    if (point.value === null || (before && point.at - before.at > GAP_STEPS * usual)) {
      if (run.length > 0) {
        runs.push(run);
      }
      run = [];
    }
    if (point.value !== null) {
      run.push(point);
    }
  }
  return run.length > 0 ? [...runs, run] : runs;
}

function nearest(points: readonly IPoint[], at: number): number | null {
  let best: number | null = null;
  points.forEach((point, index) => {
    const known = best === null ? undefined : points[best];
    if (!known || Math.abs(point.at - at) < Math.abs(known.at - at)) {
      best = index;
    }
  });
  return best;
}

function join(run: readonly number[][]): string {
  return run.map(([x, y]) => `${(x ?? 0).toFixed(1)},${(y ?? 0).toFixed(1)}`).join(' ');
}

function area(run: readonly number[][]): string {
  const first = run[0]?.[0] ?? 0;
  const last = run.at(-1)?.[0] ?? 0;
  const foot = HEIGHT.toString();
  return `${first.toFixed(1)},${foot} ${join(run)} ${last.toFixed(1)},${foot}`;
}
