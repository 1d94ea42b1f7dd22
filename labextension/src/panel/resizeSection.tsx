/** Steppers for the size of the runtime, with the plan before it, the progress after, and the code. */
import React from 'react';

import { type ResizePlan, type Resources, type RuntimeStatus } from '../messages';
import { bytes, duration } from './format';
import { type PanelModel } from './model';

const GIB = 2 ** 30;

interface ISize {
  readonly name: keyof Resources;
  readonly label: string;
  readonly least: number;
  readonly step: number;
}

export function ResizeSection({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading } = model;
  const status = reading.view?.status;
  const { resources, limits } = status ?? {};
  if (!status || !resources) {
    return <p>{trans.__('There is no runtime to resize.')}</p>;
  }
  if (status.provider === 'attached') {
    return (
      <p>{trans.__('This cluster was not started from here: resize it where it was started.')}</p>
    );
  }
  const sizes: ISize[] = [
    { name: 'cpus', label: trans.__('CPUs'), least: 1, step: 1 },
    { name: 'gpus', label: trans.__('GPUs'), least: 0, step: 1 },
    { name: 'memory_bytes', label: trans.__('Memory (GiB)'), least: GIB, step: GIB },
    { name: 'nodes', label: trans.__('Nodes'), least: 1, step: 1 }
  ];
  const isRunning = isUnderWay(status);
  const offered = sizes.filter(({ name }) => resources[name] > 0 || limits?.[name] !== 0);
  return (
    <div>
      <div className="heliostat-Steppers">
        {offered.map(size => (
          <Stepper
            key={size.name}
            size={size}
            current={resources[size.name]}
            most={limits?.[size.name] ?? null}
            isOff={isRunning}
            model={model}
          />
        ))}
      </div>
      {isRunning ? <Progress status={status} model={model} /> : <Draft model={model} />}
      {!isRunning && <Outcome status={status} model={model} />}
    </div>
  );
}

function Stepper(props: {
  readonly size: ISize;
  readonly current: number;
  readonly most: number | null;
  /** Whether nothing can be chosen now. */
  readonly isOff: boolean;
  readonly model: PanelModel;
}): React.JSX.Element {
  const { size, current, most, isOff, model } = props;
  const { trans } = model;
  const chosen = model.target[size.name] ?? current;
  const shown = size.step === 1 ? chosen : Math.round((10 * chosen) / size.step) / 10;
  const choose = (value: number): void => {
    const bounded = Math.max(size.least, most === null ? value : Math.min(value, most));
    model.choose({ [size.name]: Math.round(bounded) });
  };
  const limit = most === null ? '' : (Math.floor((10 * most) / size.step) / 10).toString();
  const id = `heliostat-size-${size.name}`;
  return (
    <div className="heliostat-Stepper" data-changed={chosen !== current}>
      <label htmlFor={id}>
        {size.label} {limit && <span>{trans.__('max %1', limit)}</span>}
      </label>
      <button
        type="button"
        aria-label={trans.__('Less: %1', size.label)}
        disabled={isOff || chosen <= size.least}
        onClick={() => {
          choose(chosen - size.step);
        }}
      >
        −
      </button>
      <input
        id={id}
        type="number"
        min={size.least / size.step}
        max={limit || undefined}
        step={size.step === 1 ? 1 : 0.1}
        value={shown}
        disabled={isOff}
        onChange={event => {
          const value = event.currentTarget.valueAsNumber;
          if (Number.isFinite(value)) {
            choose(value * size.step);
          }
        }}
      />
      <button
        type="button"
        aria-label={trans.__('More: %1', size.label)}
        disabled={isOff || (most !== null && chosen >= most)}
        onClick={() => {
          choose(chosen + size.step);
        }}
      >
        +
      </button>
    </div>
  );
}

/** What was chosen and not applied: the plan, and the ways on. */
function Draft({ model }: { readonly model: PanelModel }): React.JSX.Element | null {
  const { trans, plan, busy } = model;
  if (Object.keys(model.target).length === 0) {
    return null;
  }
  const isSlow = (plan?.waits_for.length ?? 0) > 0;
  return (
    <div className="heliostat-Plan" data-testid="heliostat-plan">
      {plan ? <Plan plan={plan} model={model} /> : <p role="status">{trans.__('Planning…')}</p>}
      <div className="heliostat-Buttons">
        <button
          type="button"
          className="heliostat-mod-main"
          disabled={busy !== null || plan === null}
          onClick={() => void model.apply()}
        >
          {busy === 'resize' ? trans.__('Applying…') : trans.__('Apply')}
        </button>
        {isSlow && (
          <button
            type="button"
            disabled={busy !== null}
            title={trans.__('Ends what is in the way instead of waiting for it')}
            onClick={() => void model.apply(true)}
          >
            {trans.__('Apply by force')}
          </button>
        )}
        <button
          type="button"
          onClick={() => {
            model.reset();
          }}
        >
          {trans.__('Reset')}
        </button>
      </div>
    </div>
  );
}

function Plan(props: { readonly plan: ResizePlan; readonly model: PanelModel }): React.JSX.Element {
  const { plan, model } = props;
  const { trans } = model;
  const { actors, running_tasks: tasks, object_bytes: objects } = plan.losses;
  const losses = [
    actors ? trans._n('%1 actor', '%1 actors', actors) : '',
    tasks ? trans._n('%1 running task', '%1 running tasks', tasks) : '',
    objects ? trans.__('%1 of objects', bytes(objects, model.settings.units)) : ''
  ].filter(Boolean);
  return (
    <>
      <div role="status">
        <ul aria-label={trans.__('Plan')}>
          {plan.changes.map(change => (
            <li key={change.text}>{change.text}</li>
          ))}
          {plan.waits_for.map(text => (
            <li key={text}>{trans.__('waits for %1', text)}</li>
          ))}
          {plan.changes.length === 0 && <li>{trans.__('The runtime already has that size.')}</li>}
        </ul>
      </div>
      {losses.length > 0 && (
        <p className="heliostat-Notice" data-level="high">
          {trans.__('Concerns %1.', losses.join(', '))}
        </p>
      )}
      {plan.warnings.map(text => (
        <p key={text} className="heliostat-Notice" data-level="high">
          {text}
        </p>
      ))}
      <p className="heliostat-Quiet">
        {trans.__('Takes about %1.', duration(plan.estimated_seconds, trans))}
      </p>
      <Code code={plan.command} model={model} />
    </>
  );
}

function Code(props: { readonly code: string; readonly model: PanelModel }): React.JSX.Element {
  const { code, model } = props;
  const { trans, actions } = model;
  return (
    <div className="heliostat-Code">
      <code>{code}</code>
      <button
        type="button"
        onClick={() => {
          actions.copy(code);
        }}
      >
        {trans.__('Copy')}
      </button>
      <button
        type="button"
        onClick={() => {
          actions.insert(code);
        }}
      >
        {trans.__('Insert')}
      </button>
    </div>
  );
}

/** A resize that is under way. */
function Progress(props: {
  readonly status: RuntimeStatus;
  readonly model: PanelModel;
}): React.JSX.Element {
  const { status, model } = props;
  const { trans } = model;
  const operation = status.resize;
  const waits = operation?.waiting_for ?? [];
  return (
    <div className="heliostat-Plan" data-testid="heliostat-resizing">
      <p>{operation?.plan.changes.map(change => change.text).join(', ')}</p>
      <progress aria-label={trans.__('Resizing')} />
      <p role="status">
        {waits.length > 0
          ? trans.__('Waiting for %1.', waits.join(', '))
          : trans.__(
              'Resizing for %1…',
              duration(model.now - (operation?.started_at ?? model.now), trans)
            )}
      </p>
      <div className="heliostat-Buttons">
        <button type="button" disabled={model.busy !== null} onClick={() => void model.cancel()}>
          {trans.__('Cancel and go back')}
        </button>
      </div>
    </div>
  );
}

/** How the latest resize ended. */
function Outcome(props: {
  readonly status: RuntimeStatus;
  readonly model: PanelModel;
}): React.JSX.Element | null {
  const { status, model } = props;
  const { trans } = model;
  const operation = status.resize;
  if (!operation || operation.ended_at === null) {
    return null;
  }
  const took = duration(operation.ended_at - operation.started_at, trans);
  return (
    <p
      className={operation.state === 'done' ? 'heliostat-Quiet' : 'heliostat-Notice'}
      data-level={operation.state === 'done' ? 'normal' : 'high'}
      data-testid="heliostat-resize-outcome"
      role="status"
    >
      {operation.message} {trans.__('It took %1.', took)}
    </p>
  );
}

function isUnderWay(status: RuntimeStatus): boolean {
  return status.resize?.state === 'running' || status.resize?.state === 'waiting';
}
