/** The sections of the panel in the user's order, or a sentence where there is nothing to show. */
import React from 'react';

import { type IReading } from '../runtime';
import { CellsSection } from './cellsSection';
import { type PanelModel } from './model';
import { ResizeSection } from './resizeSection';
import { RuntimeSection } from './runtimeSection';
import { type Section } from './sections';
import { UseSection } from './useSection';
import { WorkSection } from './workSection';

const BODIES: Record<Section, React.ComponentType<{ readonly model: PanelModel }>> = {
  runtime: RuntimeSection,
  use: UseSection,
  resize: ResizeSection,
  work: WorkSection,
  cells: CellsSection
};

export function PanelBody({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading } = model;
  if (reading.kernelId === null) {
    return <p className="heliostat-Empty">{trans.__('Open a notebook or a console.')}</p>;
  }
  return (
    <>
      <Connection model={model} />
      <Died reading={reading} />
      {reading.problem !== null && (
        <p className="heliostat-Notice" data-level="high" role="alert">
          {reading.problem}
        </p>
      )}
      {model.problem !== null && (
        <p
          className="heliostat-Notice"
          data-level="critical"
          role="alert"
          data-testid="heliostat-problem"
        >
          {model.problem}
        </p>
      )}
      {reading.view === null ? <Absent model={model} /> : <Sections model={model} />}
    </>
  );
}

function Connection({ model }: { readonly model: PanelModel }): React.JSX.Element | null {
  const { trans, manager } = model;
  return manager.connection === 'waiting' ? (
    <p className="heliostat-Notice" data-level="high" role="status">
      {trans.__('The Jupyter server does not answer; trying again.')}
    </p>
  ) : null;
}

function Died({ reading }: { readonly reading: IReading }): React.JSX.Element | null {
  const end = reading.kernelEnd;
  return end === null ? null : (
    <p className="heliostat-Notice" data-level="critical" role="alert" data-testid="heliostat-died">
      <strong>{end.what}</strong> {end.action}
    </p>
  );
}

/** Another kernel than ours, or ours without a runtime: what to do about it. */
function Absent({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading } = model;
  return (
    <div className="heliostat-Empty" data-testid="heliostat-absent">
      {reading.isKnown ? (
        <>
          <p>{trans.__('There is no Heliostat runtime behind this kernel.')}</p>
          <p>
            {trans.__('Choose the kernel “Heliostat”, or run this in a Python kernel:')}
            <br />
            <code>%load_ext heliostat</code>
          </p>
          <button type="button" disabled={model.busy !== null} onClick={() => void model.start()}>
            {model.busy === 'start' ? trans.__('Starting…') : trans.__('Start a runtime here')}
          </button>
        </>
      ) : (
        <p role="status">{trans.__('Looking for the runtime…')}</p>
      )}
    </div>
  );
}

function Sections({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans } = model;
  const titles: Record<Section, string> = {
    runtime: trans.__('Runtime'),
    use: trans.__('Use'),
    resize: trans.__('Resize'),
    work: trans.__('Work'),
    cells: trans.__('Cells')
  };
  const shown = model.sections;
  return (
    <>
      {shown.map((section, index) => {
        const Body = BODIES[section];
        const title = titles[section];
        return (
          <section
            key={section}
            className="heliostat-Section"
            data-testid={`heliostat-section-${section}`}
          >
            <div className="heliostat-Section-head">
              <h3>
                <button
                  type="button"
                  aria-expanded={!model.isFolded(section)}
                  onClick={() => {
                    model.fold(section, !model.isFolded(section));
                  }}
                >
                  <span aria-hidden="true">{model.isFolded(section) ? '▸' : '▾'}</span> {title}
                </button>
              </h3>
              <Move
                label={trans.__('Move %1 up', title)}
                sign="↑"
                isOff={index === 0}
                onClick={() => {
                  model.move(section, -1);
                }}
              />
              <Move
                label={trans.__('Move %1 down', title)}
                sign="↓"
                isOff={index === shown.length - 1}
                onClick={() => {
                  model.move(section, 1);
                }}
              />
            </div>
            {!model.isFolded(section) && <Body model={model} />}
          </section>
        );
      })}
    </>
  );
}

function Move(props: {
  readonly label: string;
  readonly sign: string;
  readonly isOff: boolean;
  readonly onClick: () => void;
}): React.JSX.Element {
  return (
    <button
      type="button"
      className="heliostat-Move"
      aria-label={props.label}
      title={props.label}
      disabled={props.isOff}
      onClick={props.onClick}
    >
      {props.sign}
    </button>
  );
}
