/** The processes behind `%%distribute`: what each runs and holds, and the way to stop one. */
import React from 'react';

import { type Gpu, type Rank, type Sample } from '../messages';
import { bytes, percent } from './format';
import { type PanelModel } from './model';

const FOLDED_FROM = 17;

export function Ranks({ model }: { readonly model: PanelModel }): React.JSX.Element | null {
  const { trans, reading } = model;
  const { ranks } = reading;
  if (ranks.length === 0) {
    return null;
  }
  const busy = ranks.filter(rank => rank.state === 'busy').length;
  const count = trans._n('%1 rank', '%1 ranks', ranks.length);
  return (
    <details className="heliostat-Ranks" open={ranks.length < FOLDED_FROM}>
      <summary>
        <strong>{count}</strong>{' '}
        <span className="heliostat-Quiet">
          {busy > 0 ? trans.__('%1 busy', busy.toString()) : trans.__('idle')}
        </span>
      </summary>
      <ul className="heliostat-List" aria-label={trans.__('Ranks')}>
        {ranks.map(rank => (
          <Row key={rank.rank} rank={rank} model={model} />
        ))}
      </ul>
    </details>
  );
}

function Row(props: { readonly rank: Rank; readonly model: PanelModel }): React.JSX.Element {
  const { rank, model } = props;
  const { trans } = model;
  const name = trans.__('rank %1', rank.rank.toString());
  const states: Record<string, string> = {
    starting: trans.__('starting'),
    idle: trans.__('idle'),
    busy: trans.__('busy'),
    dead: trans.__('ended')
  };
  return (
    <li className="heliostat-Rank" data-state={rank.state} data-testid="heliostat-rank">
      <span>
        {name} <em>{states[rank.state] ?? rank.state}</em>
        <span className="heliostat-Rank-use">{describeUse(rank, model)}</span>
        {rank.doing ? <code title={rank.doing}>{rank.doing}</code> : null}
      </span>
      <button
        type="button"
        aria-label={trans.__('Stop %1', name)}
        title={trans.__('Interrupt what it runs; after 5 s it is ended and started anew')}
        disabled={rank.state !== 'busy' || rank.stop_requested}
        onClick={() => void model.stopRank(rank.rank)}
      >
        {rank.stop_requested ? trans.__('Stopping…') : trans.__('Stop')}
      </button>
    </li>
  );
}

/** `98 %, 1.2 GiB, GPU 0: 11 GiB`; nothing for what is not known here, as on another node. */
function describeUse(rank: Rank, model: PanelModel): string {
  const { settings, trans, reading } = model;
  const sample = reading.view?.sample;
  const pid = rank.pid ?? null;
  if (!sample || pid === null) {
    return '';
  }
  const process = sample.processes.find(each => each.pid === pid);
  const host = process
    ? [percent(process.cpu_percent), bytes(process.memory_bytes, settings.units)]
    : [];
  const gpus = gpusOf(sample, pid).map(([gpu, held]) =>
    trans.__('GPU %1: %2', gpu.index.toString(), bytes(held, settings.units))
  );
  return [...host, ...gpus].join(', ');
}

function gpusOf(sample: Sample, pid: number): [Gpu, number | null][] {
  return (sample.gpus ?? []).flatMap(gpu =>
    (gpu.processes ?? [])
      .filter(process => process.pid === pid)
      .map((process): [Gpu, number | null] => [gpu, process.memory_bytes])
  );
}
