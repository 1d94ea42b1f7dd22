/** The state of the runtime, how it got there, and the buttons that change it. */
import React from 'react';

import { type RuntimeStatus } from '../messages';
import { describeState } from '../statusbar';
import { duration } from './format';
import { type PanelModel } from './model';

const USABLE = new Set(['ready', 'resizing', 'degraded']);

export function RuntimeSection({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading, busy, now } = model;
  const status = reading.view?.status;
  const isUsable = status !== undefined && USABLE.has(status.state);
  return (
    <div>
      {status ? (
        <Facts status={status} model={model} now={now} />
      ) : (
        <p>{trans.__('This kernel has no runtime.')}</p>
      )}
      {status?.state === 'starting' && <Steps status={status} model={model} />}
      {status?.failure && (
        <div className="heliostat-Notice" data-level="critical" role="alert">
          <strong>{status.failure.what}</strong> {status.failure.action}
          {(status.failure.log_tail ?? []).length > 0 && (
            <pre tabIndex={0}>{(status.failure.log_tail ?? []).slice(-8).join('\n')}</pre>
          )}
        </div>
      )}
      <div className="heliostat-Buttons">
        {status ? (
          <>
            <button
              type="button"
              disabled={busy !== null || !(isUsable || status.state === 'failed')}
              onClick={() => void model.restart()}
            >
              {busy === 'restart' ? trans.__('Restarting…') : trans.__('Restart')}
            </button>
            <button
              type="button"
              disabled={busy !== null || status.state === 'stopping'}
              onClick={() => void model.stop()}
            >
              {busy === 'stop' ? trans.__('Stopping…') : trans.__('Stop')}
            </button>
            <button
              type="button"
              aria-pressed={model.log !== null}
              disabled={busy === 'log'}
              onClick={() => void model.toggleLog()}
            >
              {trans.__('Log')}
            </button>
          </>
        ) : (
          <button type="button" disabled={busy !== null} onClick={() => void model.start()}>
            {busy === 'start' ? trans.__('Starting…') : trans.__('Start')}
          </button>
        )}
      </div>
      {model.log !== null && (
        <pre className="heliostat-Log" tabIndex={0} aria-label={trans.__('Log of the runtime')}>
          {model.log.join('\n') || trans.__('The log is empty.')}
        </pre>
      )}
    </div>
  );
}

function Facts(props: {
  readonly status: RuntimeStatus;
  readonly model: PanelModel;
  readonly now: number;
}): React.JSX.Element {
  const { status, model, now } = props;
  const { trans } = model;
  const provider =
    status.provider === 'attached' ? trans.__('attached cluster') : trans.__('on this machine');
  return (
    <dl className="heliostat-Facts">
      <dt>{trans.__('State')}</dt>
      <dd data-state={status.state}>
        <span role="status" data-testid="heliostat-state">
          {describeState(status, trans)}
        </span>
      </dd>
      {status.state !== 'starting' && (
        <>
          <dt>{trans.__('Up for')}</dt>
          <dd>{duration(Math.round(now - status.started_at), trans)}</dd>
        </>
      )}
      {status.address !== null && (
        <>
          <dt>{trans.__('Address')}</dt>
          <dd>
            <code>{status.address}</code> {provider}
          </dd>
        </>
      )}
    </dl>
  );
}

function Steps(props: {
  readonly status: RuntimeStatus;
  readonly model: PanelModel;
}): React.JSX.Element {
  const { trans } = props.model;
  return (
    <ol className="heliostat-Steps">
      {props.status.steps.map(step => (
        <li key={step.name}>
          {step.name} <span>{trans.__('%1 s', step.elapsed.toFixed(1))}</span>
        </li>
      ))}
    </ol>
  );
}
