/** What each cell used; a click goes to the cell. */
import React from 'react';

import { type CellAccount } from '../messages';
import { bytes, digits, duration } from './format';
import { type PanelModel } from './model';

const SHOWN = 50;

export function CellsSection({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading } = model;
  const latest = [...reading.cells].reverse().slice(0, SHOWN);
  if (latest.length === 0) {
    return <p>{trans.__('No cell has run on this runtime yet.')}</p>;
  }
  const hasGpus = latest.some(cell => cell.gpu_seconds !== null);
  return (
    <table className="heliostat-Table heliostat-Cells">
      <thead>
        <tr>
          <th scope="col">{trans.__('Time')}</th>
          <th scope="col" title={trans.__('CPU seconds, kernel and workers together')}>
            {trans.__('CPU s')}
          </th>
          {hasGpus && <th scope="col">{trans.__('GPU s')}</th>}
          <th scope="col" title={trans.__('The most memory that kernel and workers held')}>
            {trans.__('Peak')}
          </th>
          {hasGpus && <th scope="col">{trans.__('GPU peak')}</th>}
        </tr>
      </thead>
      {latest.map(cell => (
        <Rows
          key={`${cell.cell_id}-${cell.started_at.toString()}`}
          cell={cell}
          hasGpus={hasGpus}
          model={model}
        />
      ))}
    </table>
  );
}

/** The cell on a line of its own, its figures below: a side bar is narrow. */
function Rows(props: {
  readonly cell: CellAccount;
  readonly hasGpus: boolean;
  readonly model: PanelModel;
}): React.JSX.Element {
  const { cell, hasGpus, model } = props;
  const { trans, actions, settings } = model;
  const name = actions.describeCell(cell.cell_id);
  const isRunning = cell.ended_at === null;
  const time = duration((cell.ended_at ?? model.now) - cell.started_at, trans);
  return (
    <tbody data-running={isRunning} data-testid="heliostat-cell">
      <tr>
        <th scope="rowgroup" colSpan={hasGpus ? 5 : 3}>
          {name === null ? (
            <span className="heliostat-Quiet">{trans.__('a cell that is gone')}</span>
          ) : (
            <button
              type="button"
              className="heliostat-Link"
              title={name}
              onClick={() => {
                actions.reveal(cell.cell_id);
              }}
            >
              {name}
            </button>
          )}
        </th>
      </tr>
      <tr>
        <td>{isRunning ? <em title={trans.__('running')}>{trans.__('%1 …', time)}</em> : time}</td>
        <td>{hundredths(cell.cpu_seconds)}</td>
        {hasGpus && <td>{hundredths(cell.gpu_seconds)}</td>}
        <td>{bytes(cell.peak_memory_bytes, settings.units)}</td>
        {hasGpus && <td>{bytes(cell.peak_gpu_memory_bytes, settings.units)}</td>}
      </tr>
    </tbody>
  );
}

/** Most cells take less than a second of CPU, which is no zero. */
function hundredths(seconds: number | null): string {
  return seconds !== null && seconds < 0.995 ? seconds.toFixed(2) : digits(seconds);
}
