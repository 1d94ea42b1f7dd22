/** Keeps a manager on the kernel of the notebook or console that has the focus. */
import { type JupyterFrontEnd } from '@jupyterlab/application';
import { type ISessionContext } from '@jupyterlab/apputils';
import { type Kernel } from '@jupyterlab/services';
import { type IDisposable } from '@lumino/disposable';
import { type ISignal, Signal } from '@lumino/signaling';
import { type Widget } from '@lumino/widgets';

import { type IRuntimeManager } from './runtime';

/** A widget with a session: a notebook's panel, or a console's. */
export interface ISessionWidget extends Widget {
  readonly sessionContext: ISessionContext;
}

/** What a notebook tracker and a console tracker have in common. */
export interface ISessionTracker {
  readonly currentWidget: ISessionWidget | null;
  readonly currentChanged: ISignal<object, ISessionWidget | null>;
  find(fn: (widget: ISessionWidget) => boolean): ISessionWidget | undefined;
}

/**
 * Follows the kernel of the tracked widget that was focused last, until disposed.
 *
 * #### Notes
 * A tracker alone does not tell when the focus comes back to its widget from one of another
 * tracker, from a console to the notebook beside it: that, the shell tells.
 */
export class KernelFollower implements IDisposable {
  constructor(
    trackers: readonly ISessionTracker[],
    manager: IRuntimeManager,
    shell: JupyterFrontEnd.IShell
  ) {
    this._manager = manager;
    this._shell = shell;
    shell.currentChanged?.connect(this._onShell, this);
    this._trackers = trackers;
    for (const tracker of trackers) {
      tracker.currentChanged.connect(this._onWidget, this);
    }
    this._onWidget(this, null);
  }

  /** The widget whose kernel is followed. */
  get current(): ISessionWidget | null {
    return this._current;
  }

  /** Emitted when `current`, or its kernel, is another one. */
  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    Signal.clearData(this);
  }

  private _onShell(): void {
    const { currentWidget } = this._shell;
    for (const tracker of this._trackers) {
      const focused = tracker.find(widget => widget === currentWidget);
      if (focused) {
        this._onWidget(this, focused);
      }
    }
  }

  /** One tracker that has nothing says nothing about the others. */
  private _onWidget(_: object, focused: ISessionWidget | null): void {
    const other = this._trackers.find(tracker => tracker.currentWidget)?.currentWidget;
    const widget = focused ?? other ?? null;
    if (widget === this._current) {
      return;
    }
    const before = this._current?.sessionContext;
    before?.kernelChanged.disconnect(this._onKernel, this);
    before?.statusChanged.disconnect(this._onStatus, this);
    this._current?.disposed.disconnect(this._onDisposed, this);
    this._current = widget;
    widget?.sessionContext.kernelChanged.connect(this._onKernel, this);
    widget?.sessionContext.statusChanged.connect(this._onStatus, this);
    widget?.disposed.connect(this._onDisposed, this);
    this._onKernel();
  }

  private _onDisposed(): void {
    this._onWidget(this, null);
  }

  private _onKernel(): void {
    this._manager.follow(this._current?.sessionContext.session?.kernel?.id ?? null);
    this._changed.emit();
  }

  /**
   * #### Notes
   * A restart replaces the runtime under the same kernel id: the server finds the new one, and
   * what is asked anew is everything about it.
   */
  private _onStatus(_: ISessionContext, status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting') {
      this._manager.refresh();
    }
  }

  private readonly _changed = new Signal<this, void>(this);
  private _current: ISessionWidget | null = null;
  private _isDisposed = false;
  private readonly _manager: IRuntimeManager;
  private readonly _shell: JupyterFrontEnd.IShell;
  private readonly _trackers: readonly ISessionTracker[];
}
