/** What the panel shows, and what its buttons do. */
import { type TranslationBundle } from '@jupyterlab/translation';
import { VDomModel } from '@jupyterlab/ui-components';

import { type ResizePlan, type ResizeTarget } from '../messages';
import { type IRuntimeManager, type IReading, SECONDS_FRESH } from '../runtime';
import { moved, ordered, type Section } from './sections';
import { DEFAULT_SETTINGS, type IPanelActions, type IPanelSettings } from './tokens';

/** After the last click on a stepper, before its plan is asked for. */
const PLAN_PAUSE = 120;
/** Seconds that a chart shows at the least. */
const SHORTEST_CHART = 60;
/** Readings older than so many intervals are called stale. */
const INTERVALS_FRESH = 3;

/** What is being asked of the server. */
export type Busy = 'work' | 'resize' | 'cancel' | 'restart' | 'stop' | 'start' | 'log';

/** Model of the panel. Follows a manager that it does not own. */
export class PanelModel extends VDomModel {
  constructor(options: PanelModel.IOptions) {
    super();
    this.manager = options.manager;
    this.actions = options.actions;
    this.trans = options.trans;
    this._kernelId = this.manager.reading.kernelId;
    this.manager.changed.connect(this._onReading, this);
  }

  readonly actions: IPanelActions;
  readonly manager: IRuntimeManager;
  readonly trans: TranslationBundle;

  get reading(): IReading {
    return this.manager.reading;
  }

  /** Whether the panel can be seen; while it cannot, nothing is rendered. */
  set isVisible(visible: boolean) {
    this._isVisible = visible;
    if (visible) {
      this.stateChanged.emit();
    }
  }

  get settings(): IPanelSettings {
    return this._settings;
  }

  set settings(settings: IPanelSettings) {
    this._settings = settings;
    this._emit();
  }

  get sections(): Section[] {
    return ordered(this._settings.sections);
  }

  /** The sizes that the user chose and did not apply yet. */
  get target(): ResizeTarget {
    return this._target;
  }

  /** What `target` would do; `null` while it is not known. */
  get plan(): ResizePlan | null {
    return this._plan;
  }

  /** What is going on; `null` when nothing is. */
  get busy(): Busy | null {
    return this._busy;
  }

  /** Why the last thing that was asked for was not done. */
  get problem(): string | null {
    return this._problem;
  }

  /** Lines of the log, once they were asked for. */
  get log(): readonly string[] | null {
    return this._log;
  }

  /** Name of the notebook or console that is followed; empty when it has none. */
  get notebook(): string {
    const { kernelId } = this.reading;
    return kernelId === null ? '' : (this.actions.nameOfKernel(kernelId) ?? '');
  }

  /** Now, by the server's clock, in Unix seconds. */
  get now(): number {
    return Date.now() / 1000 + this.reading.ahead;
  }

  /** Length of the charts' time axis: no longer than there are readings, within what is set. */
  get chartSeconds(): number {
    const first = this.reading.history[0]?.at ?? this.now;
    const most = 60 * this._settings.historyMinutes;
    return Math.min(most, Math.max(SHORTEST_CHART, this.now - first));
  }

  /** Seconds since the figures were right; `null` while they are. */
  get staleSeconds(): number | null {
    const { view, receivedAt } = this.reading;
    const at = view?.sample?.at ?? view?.at;
    if (at === undefined) {
      return null;
    }
    const age = Math.max(this.now - at, Date.now() / 1000 - receivedAt);
    return age > Math.max(SECONDS_FRESH, INTERVALS_FRESH * this.manager.interval) ? age : null;
  }

  isFolded(section: Section): boolean {
    return this._settings.folded.includes(section);
  }

  fold(section: Section, folded: boolean): void {
    const others = this._settings.folded.filter(name => name !== section);
    this._arrange({ folded: folded ? [...others, section] : others });
  }

  move(section: Section, by: -1 | 1): void {
    this._arrange({ sections: moved(this.sections, section, by) });
  }

  /** Choose a size; its plan follows. */
  choose(target: ResizeTarget): void {
    const chosen = { ...this._target, ...target };
    this._target = Object.fromEntries(
      Object.entries(chosen).filter(([name, value]) => value !== this._current(name))
    );
    this._plan = null;
    this._problem = null;
    clearTimeout(this._planTimer);
    if (Object.keys(this._target).length > 0) {
      this._planTimer = setTimeout(() => void this._askForPlan(), PLAN_PAUSE);
    }
    this._emit();
  }

  /** Forget what was chosen. */
  reset(): void {
    clearTimeout(this._planTimer);
    this._target = {};
    this._plan = null;
    this._problem = null;
    this._emit();
  }

  async apply(force = false): Promise<void> {
    const { kernelId } = this.reading;
    if (kernelId !== null) {
      const request = { target: this._target, force };
      await this._do('resize', async () => {
        await this.manager.api.resize(kernelId, request);
        this.reset();
      });
    }
  }

  async cancel(): Promise<void> {
    await this._ask('cancel', kernelId => this.manager.api.cancelResize(kernelId));
  }

  async restart(): Promise<void> {
    const body = this.trans.__(
      'Tasks, actors and objects of the runtime are lost. Variables of the notebook stay.'
    );
    if (
      await this.actions.confirm(
        this.trans.__('Restart the runtime?'),
        body,
        this.trans.__('Restart')
      )
    ) {
      await this._ask('restart', kernelId => this.manager.api.restart(kernelId));
    }
  }

  async stop(): Promise<void> {
    const body = this.trans.__(
      'Everything that runs on the runtime ends. The kernel and its variables stay.'
    );
    if (
      await this.actions.confirm(this.trans.__('Stop the runtime?'), body, this.trans.__('Stop'))
    ) {
      await this._ask('stop', kernelId => this.manager.api.stop(kernelId));
    }
  }

  async start(): Promise<void> {
    await this._do('start', () => this.actions.run('%runtime start'));
  }

  /** The log of a piece of work, while it is shown. */
  get workLog(): { readonly taskId: string; readonly lines: readonly string[] } | null {
    return this._workLog;
  }

  async cancelWork(taskId: string): Promise<void> {
    await this._ask('work', kernelId => this.manager.api.cancelWork(kernelId, taskId));
  }

  async stopRank(rank: number): Promise<void> {
    await this._ask('work', kernelId => this.manager.api.stopRank(kernelId, rank));
  }

  /** Show the log of a piece of work, or put it away. */
  async toggleWorkLog(taskId: string): Promise<void> {
    if (this._workLog?.taskId === taskId) {
      this._workLog = null;
      this._emit();
      return;
    }
    await this._ask('work', async kernelId => {
      this._workLog = { taskId, lines: (await this.manager.api.workLog(kernelId, taskId)).lines };
    });
  }

  /** Show the log, or put it away. */
  async toggleLog(): Promise<void> {
    if (this._log !== null) {
      this._log = null;
      this._emit();
      return;
    }
    await this._ask('log', async kernelId => {
      this._log = (await this.manager.api.log(kernelId)).lines;
    });
  }

  override dispose(): void {
    if (!this.isDisposed) {
      clearTimeout(this._planTimer);
      this.manager.changed.disconnect(this._onReading, this);
      super.dispose();
    }
  }

  private _current(name: string): number | undefined {
    const resources = this.reading.view?.status.resources;
    return resources ? resources[name as keyof typeof resources] : undefined;
  }

  private _onReading(): void {
    if (this.reading.kernelId !== this._kernelId) {
      this._kernelId = this.reading.kernelId;
      this._log = null;
      this._workLog = null;
      this.reset();
    }
    this._emit();
  }

  private async _askForPlan(): Promise<void> {
    const { kernelId } = this.reading;
    const target = this._target;
    if (kernelId === null) {
      return;
    }
    try {
      const plan = await this.manager.api.plan(kernelId, target);
      if (target === this._target) {
        this._plan = plan;
      }
    } catch (reason) {
      if (target === this._target) {
        this._problem = Private.sentence(reason);
      }
    }
    this._emit();
  }

  private async _ask(busy: Busy, act: (kernelId: string) => Promise<unknown>): Promise<void> {
    const { kernelId } = this.reading;
    if (kernelId !== null) {
      await this._do(busy, () => act(kernelId));
    }
  }

  private async _do(busy: Busy, act: () => Promise<unknown>): Promise<void> {
    this._busy = busy;
    this._problem = null;
    this._emit();
    try {
      await act();
    } catch (reason) {
      this._problem = Private.sentence(reason);
    }
    this._busy = null;
    this._emit();
  }

  private _arrange(settings: Partial<Pick<IPanelSettings, 'sections' | 'folded'>>): void {
    this.settings = { ...this._settings, ...settings };
    this.actions.save(settings);
  }

  private _emit(): void {
    if (this._isVisible && !this.isDisposed) {
      this.stateChanged.emit();
    }
  }

  private _busy: Busy | null = null;
  private _isVisible = false;
  private _kernelId: string | null;
  private _log: readonly string[] | null = null;
  private _plan: ResizePlan | null = null;
  private _planTimer: ReturnType<typeof setTimeout> | undefined;
  private _problem: string | null = null;
  private _settings = DEFAULT_SETTINGS;
  private _target: ResizeTarget = {};
  private _workLog: { taskId: string; lines: readonly string[] } | null = null;
}

export namespace PanelModel {
  export interface IOptions {
    actions: IPanelActions;
    manager: IRuntimeManager;
    trans: TranslationBundle;
  }
}

namespace Private {
  export function sentence(reason: unknown): string {
    return reason instanceof Error ? reason.message : String(reason);
  }
}
