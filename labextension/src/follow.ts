/** Keeps a manager on the kernel of the notebook that has the focus. */
import { type ISessionContext } from '@jupyterlab/apputils';
import { type INotebookTracker } from '@jupyterlab/notebook';
import { type Kernel } from '@jupyterlab/services';
import { type IDisposable } from '@lumino/disposable';
import { Signal } from '@lumino/signaling';

import { type IRuntimeManager } from './runtime';

/** Follows the focused notebook's kernel until disposed. */
export class KernelFollower implements IDisposable {
  constructor(tracker: INotebookTracker, manager: IRuntimeManager) {
    this._tracker = tracker;
    this._manager = manager;
    tracker.currentChanged.connect(this._onNotebook, this);
    this._onNotebook();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  dispose(): void {
    this._isDisposed = true;
    Signal.clearData(this);
  }

  private _onNotebook(): void {
    const context = this._tracker.currentWidget?.sessionContext ?? null;
    if (context === this._context) {
      return;
    }
    this._context?.kernelChanged.disconnect(this._onKernel, this);
    this._context?.statusChanged.disconnect(this._onStatus, this);
    this._context = context;
    this._context?.kernelChanged.connect(this._onKernel, this);
    this._context?.statusChanged.connect(this._onStatus, this);
    this._onKernel();
  }

  private _onKernel(): void {
    this._manager.follow(this._context?.session?.kernel?.id ?? null);
  }

  /**
   * #### Notes
   * A restart replaces the runtime under the same kernel id, and a cell may start one in a
   * kernel that had none: neither is left to the next poll.
   */
  private _onStatus(_: ISessionContext, status: Kernel.Status): void {
    if (status === 'restarting' || status === 'autorestarting') {
      this._manager.follow(null);
      this._onKernel();
    } else if (status === 'idle' && this._manager.reading.view === null) {
      void this._manager.refresh();
    }
  }

  private _context: ISessionContext | null = null;
  private _isDisposed = false;
  private readonly _manager: IRuntimeManager;
  private readonly _tracker: INotebookTracker;
}
