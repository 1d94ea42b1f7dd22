/** What is used of what there is: the machine, its GPUs, its nodes, and by which process. */
import { JSONExt } from '@lumino/coreutils';
import React from 'react';

import { type Gpu, type GpuProcess, type Node, type ProcessUse, type RayUse } from '../messages';
import { Chart } from './chart';
import { alarms, gpuFigures, hostFigures, type IFigure } from './figures';
import { bytes, digits, percent } from './format';
import { type PanelModel } from './model';

const PROCESSES_SHOWN = 6;

export function UseSection({ model }: { readonly model: PanelModel }): React.JSX.Element {
  const { trans, reading, settings } = model;
  const { history, nodes, view } = reading;
  const sample = view?.sample;
  if (!sample) {
    return <p>{trans.__('No reading yet.')}</p>;
  }
  const options = { units: settings.units, thresholds: settings.thresholds, trans };
  const host = hostFigures(history, options);
  const gpus = (sample.gpus ?? []).map(gpu => ({
    gpu,
    figures: gpuFigures(gpu, history, options)
  }));
  const all = [...host, ...gpus.flatMap(({ gpu, figures }) => named(gpu, figures))];
  const pending = sample.ray?.pending ?? [];
  return (
    <div className="heliostat-Use" data-stale={model.staleSeconds !== null}>
      <Stale model={model} />
      {alarms(all, trans).map(text => (
        <p key={text} className="heliostat-Notice" data-level="critical" role="alert">
          {text}
        </p>
      ))}
      {pending.length > 0 && (
        <p
          className="heliostat-Notice"
          data-level="high"
          role="status"
          data-testid="heliostat-pending"
        >
          {trans.__('Waiting for resources: %1.', pending.join('; '))} {holders(sample.ray, model)}
        </p>
      )}
      {host.map(figure => (
        <FigureRow key={figure.id} figure={figure} model={model} />
      ))}
      {sample.gpus === null && (
        <p className="heliostat-Quiet">{trans.__('No NVIDIA driver here, so no GPU is seen.')}</p>
      )}
      {gpus.map(({ gpu, figures }) => (
        <GpuRow key={gpu.uuid} gpu={gpu} figures={figures} model={model} />
      ))}
      {nodes.length > 1 && <Nodes nodes={nodes} model={model} />}
      <Processes processes={sample.processes} model={model} />
    </div>
  );
}

function Stale({ model }: { readonly model: PanelModel }): React.JSX.Element | null {
  const age = model.staleSeconds;
  return age === null ? null : (
    <p className="heliostat-Notice" data-level="high" role="status" data-testid="heliostat-stale">
      {model.trans.__('These figures are %1 s old.', Math.round(age).toString())}
    </p>
  );
}

/** Who has the CPUs and GPUs that somebody waits for. */
function holders(ray: RayUse | null, model: PanelModel): string {
  if (!ray) {
    return '';
  }
  const { trans } = model;
  const cpus = trans.__('%1 of %2 CPUs', digits(ray.cpus_used), digits(ray.cpus));
  const gpus =
    ray.gpus > 0 ? trans.__(' and %1 of %2 GPUs', digits(ray.gpus_used), digits(ray.gpus)) : '';
  const running = model.reading.cells.filter(cell => cell.ended_at === null);
  const names = running.map(cell => model.actions.describeCell(cell.cell_id) ?? cell.cell_id);
  const by = ray.holders?.length ? trans.__(', by %1', ray.holders.join(', ')) : '';
  const during = names.length > 0 ? trans.__(', while %1 runs', names.join(', ')) : '';
  return trans.__('In use: %1%2%3%4.', cpus, gpus, by, during);
}

function named(gpu: Gpu, figures: readonly IFigure[]): IFigure[] {
  return figures.map(figure => ({
    ...figure,
    label: `GPU ${gpu.index.toString()} ${figure.label}`
  }));
}

function FigureRow(props: {
  readonly figure: IFigure;
  readonly model: PanelModel;
}): React.JSX.Element {
  const { figure, model } = props;
  return (
    <div
      className="heliostat-Figure"
      data-level={figure.level}
      data-testid={`heliostat-use-${figure.id}`}
    >
      <div className="heliostat-Figure-head">
        <span>{figure.label}</span>
        <span className="heliostat-Figure-text">
          {figure.text}
          {figure.detail && <em> {figure.detail}</em>}
        </span>
      </div>
      <Chart figure={figure} now={model.now} seconds={model.chartSeconds} trans={model.trans} />
    </div>
  );
}

function GpuRow(props: {
  readonly gpu: Gpu;
  readonly figures: readonly IFigure[];
  readonly model: PanelModel;
}): React.JSX.Element {
  const { gpu, figures, model } = props;
  const { trans } = model;
  const facts = [
    gpu.temperature_celsius === null ? '' : trans.__('%1 °C', digits(gpu.temperature_celsius)),
    gpu.power_watts === null
      ? ''
      : trans.__('%1 of %2 W', digits(gpu.power_watts), digits(gpu.power_limit_watts))
  ].filter(Boolean);
  return (
    <section
      className="heliostat-Gpu"
      aria-label={trans.__('GPU %1', gpu.index.toString())}
      data-testid={`heliostat-gpu-${gpu.uuid}`}
    >
      <h4>
        {trans.__('GPU %1: %2', gpu.index.toString(), gpu.name)}
        {gpu.mig && <em> {trans.__('MIG slice')}</em>}
        <span className="heliostat-Quiet"> {facts.join(' · ')}</span>
      </h4>
      {figures.map(figure => (
        <FigureRow key={figure.id} figure={figure} model={model} />
      ))}
      {gpu.processes === null ? (
        <p className="heliostat-Quiet">{trans.__('The driver does not say who is on it.')}</p>
      ) : (
        <ul className="heliostat-List">
          {gpu.processes.map(process => (
            <GpuProcessRow key={process.pid} process={process} model={model} />
          ))}
        </ul>
      )}
    </section>
  );
}

/** `rank 2 · train.ipynb`: who holds memory of a GPU, and for which notebook. */
function GpuProcessRow(props: {
  readonly process: GpuProcess;
  readonly model: PanelModel;
}): React.JSX.Element {
  const { process, model } = props;
  const { trans } = model;
  const isOurs = process.role !== null;
  const isKernel = process.role === 'owner';
  const name = process.name ?? trans.__('process %1', process.pid.toString());
  const other = process.kernel_id
    ? (model.actions.nameOfKernel(process.kernel_id) ?? trans.__('another server’s notebook'))
    : trans.__('no notebook of yours');
  return (
    <li title={trans.__('process %1', process.pid.toString())}>
      <span>
        {isKernel ? trans.__('kernel') : name}{' '}
        <span className="heliostat-Quiet">· {isOurs ? model.notebook : other}</span>
      </span>
      <span>{bytes(process.memory_bytes, model.settings.units)}</span>
    </li>
  );
}

function Nodes(props: {
  readonly nodes: readonly Node[];
  readonly model: PanelModel;
}): React.JSX.Element {
  const { nodes, model } = props;
  const { trans } = model;
  return (
    <details className="heliostat-More" open={nodes.length <= 8}>
      <summary>{trans.__('%1 nodes', nodes.length.toString())}</summary>
      <div className="heliostat-Nodes" tabIndex={0} role="group" aria-label={trans.__('Nodes')}>
        {nodes.map(node => (
          <NodeRow key={node.node_id} node={node} model={model} />
        ))}
      </div>
    </details>
  );
}

/** Rows are rendered again only when their node is another one: it stays smooth with a hundred. */
const NodeRow = React.memo(
  function NodeRow(props: { readonly node: Node; readonly model: PanelModel }): React.JSX.Element {
    const { node, model } = props;
    const { trans, settings } = model;
    const used = node.cpus_used ?? null;
    return (
      <details className="heliostat-Node" data-state={node.state} data-testid="heliostat-node">
        <summary>
          <span>
            {node.name} {node.head && <em>{trans.__('head')}</em>}
            {node.state !== 'alive' && <em> {node.state}</em>}
          </span>
          <meter
            min={0}
            max={Math.max(node.cpus, 1)}
            value={used ?? 0}
            aria-label={trans.__('CPUs given out on %1', node.name)}
          />
          <span>{trans.__('%1 of %2 CPUs', digits(used), digits(node.cpus))}</span>
        </summary>
        <dl className="heliostat-Facts">
          <dt>{trans.__('GPUs')}</dt>
          <dd>{trans.__('%1 of %2', digits(node.gpus_used ?? null), digits(node.gpus))}</dd>
          <dt>{trans.__('Memory')}</dt>
          <dd>{bytes(node.memory_bytes, settings.units)}</dd>
          <dt>{trans.__('Object store')}</dt>
          <dd>{bytes(node.object_store_bytes, settings.units)}</dd>
          <dt>{trans.__('Address')}</dt>
          <dd>
            <code>{node.address}</code>
          </dd>
        </dl>
      </details>
    );
  },
  (before, after) => JSONExt.deepEqual({ ...before.node }, { ...after.node })
);

function Processes(props: {
  readonly processes: readonly ProcessUse[];
  readonly model: PanelModel;
}): React.JSX.Element | null {
  const { model } = props;
  const { trans, settings } = model;
  const largest = [...props.processes].sort((a, b) => b.memory_bytes - a.memory_bytes);
  if (largest.length === 0) {
    return null;
  }
  return (
    <details className="heliostat-More">
      <summary>{trans.__('Processes')}</summary>
      <table className="heliostat-Table">
        <thead>
          <tr>
            <th scope="col">{trans.__('Process')}</th>
            <th scope="col">{trans.__('CPU')}</th>
            <th scope="col">{trans.__('Memory')}</th>
          </tr>
        </thead>
        <tbody>
          {largest.slice(0, PROCESSES_SHOWN).map(process => (
            <tr key={process.pid}>
              <td title={trans.__('process %1', process.pid.toString())}>
                {process.name} <span className="heliostat-Quiet">{process.role}</span>
              </td>
              <td>{percent(process.cpu_percent)}</td>
              <td>{bytes(process.memory_bytes, settings.units)}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}
