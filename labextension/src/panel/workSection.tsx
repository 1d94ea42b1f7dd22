/** Trainings, distributed cells and queries: how far they are, and the way to stop them. */
import React from 'react';

import { type Work } from '../messages';
import { bytes, digits, duration } from './format';
import { type PanelModel } from './model';
import { Ranks } from './ranks';

const FINISHED_SHOWN = 8;

export function WorkSection({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading } = model;
  const latest = [...reading.work].reverse();
  const running = latest.filter(work => work.state === 'running');
  const finished = latest.filter(work => work.state !== 'running').slice(0, FINISHED_SHOWN);
  if (latest.length === 0 && reading.ranks.length === 0) {
    return <p>{trans.__('No training, distributed cell or query yet.')}</p>;
  }
  return (
    <div>
      <Ranks model={model} />
      {[...running, ...finished].map(work => (
        <Piece key={work.task_id} work={work} model={model} />
      ))}
    </div>
  );
}

function Piece(props: { readonly work: Work; readonly model: PanelModel }): React.JSX.Element {
  const { work, model } = props;
  const { trans } = model;
  const isRunning = work.state === 'running';
  const log = model.workLog?.taskId === work.task_id ? model.workLog.lines : null;
  return (
    <section
      className="heliostat-Work"
      aria-label={work.name}
      data-state={work.state}
      data-testid="heliostat-work"
    >
      <div className="heliostat-Figure-head">
        <strong>{work.name}</strong>
        <span className="heliostat-Figure-text">{describeState(work, model)}</span>
      </div>
      {isRunning && <Bar work={work} model={model} />}
      <p>{describeMetrics(work)}</p>
      {work.message !== '' && (
        <p
          className="heliostat-Notice"
          data-level={work.state === 'failed' ? 'critical' : 'normal'}
        >
          {work.message}
        </p>
      )}
      <Workers work={work} model={model} />
      <div className="heliostat-Buttons">
        {isRunning && (
          <button
            type="button"
            aria-label={trans.__('Cancel %1', work.name)}
            disabled={work.cancel_requested ?? false}
            onClick={() => void model.cancelWork(work.task_id)}
          >
            {work.cancel_requested ? trans.__('Cancelling…') : trans.__('Cancel')}
          </button>
        )}
        {work.log_path !== null && work.log_path !== undefined && (
          <button
            type="button"
            aria-pressed={log !== null}
            onClick={() => void model.toggleWorkLog(work.task_id)}
          >
            {trans.__('Log')}
          </button>
        )}
      </div>
      {log !== null && (
        <pre className="heliostat-Log" tabIndex={0} aria-label={trans.__('Log of %1', work.name)}>
          {log.join('\n') || trans.__('The log is empty.')}
        </pre>
      )}
    </section>
  );
}

function Bar(props: { readonly work: Work; readonly model: PanelModel }): React.JSX.Element {
  const { work, model } = props;
  const label = model.trans.__('Progress of %1', work.name);
  const { done = 0, total } = work;
  return total ? (
    <progress aria-label={label} max={total} value={Math.min(done, total)} />
  ) : (
    <progress aria-label={label} />
  );
}

/** `12 of 50 rounds, 8 s, about 25 s left`. */
function describeState(work: Work, model: PanelModel): string {
  const { trans, now } = model;
  const { done = 0, total, unit, started_at: startedAt, ended_at: endedAt } = work;
  const elapsed = (endedAt ?? now) - startedAt;
  const count = total
    ? trans.__('%1 of %2 %3', digits(done), digits(total), unit)
    : done
      ? trans.__('%1 %2', digits(done), unit)
      : '';
  const words = {
    running: '',
    done: trans.__('done'),
    failed: trans.__('failed'),
    cancelled: trans.__('cancelled')
  };
  const left =
    work.state === 'running' && total && done > 0
      ? trans.__('about %1 left', duration(Math.round((elapsed * (total - done)) / done), trans))
      : '';
  return [words[work.state], count, duration(elapsed, trans), left].filter(Boolean).join(', ');
}

function describeMetrics(work: Work): string {
  return Object.entries(work.metrics ?? {})
    .map(([name, value]) => `${name} ${Number(Number(value).toPrecision(4)).toString()}`)
    .join(' · ');
}

function Workers(props: {
  readonly work: Work;
  readonly model: PanelModel;
}): React.JSX.Element | null {
  const { work, model } = props;
  const { trans, settings } = model;
  const workers = work.workers ?? [];
  if (workers.length === 0) {
    return null;
  }
  return (
    <details className="heliostat-More">
      <summary>{trans._n('%1 worker', '%1 workers', workers.length)}</summary>
      <ul className="heliostat-List">
        {workers.map(worker => (
          <li key={worker.rank}>
            <span>
              {trans.__('rank %1', worker.rank.toString())}{' '}
              <span className="heliostat-Quiet">{worker.message ?? ''}</span>
            </span>
            <span>
              {[
                worker.rows === null || worker.rows === undefined
                  ? ''
                  : trans.__('%1 rows', worker.rows.toLocaleString()),
                bytes(worker.memory_bytes, settings.units)
              ]
                .filter(Boolean)
                .join(' · ')}
            </span>
          </li>
        ))}
      </ul>
    </details>
  );
}
