/** The runtimes of this server in JupyterLab's list of what runs, each with a way to end it. */
import { type IRunningSessions } from '@jupyterlab/running';
import { type Session } from '@jupyterlab/services';
import { type TranslationBundle } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';

import { heliostatIcon } from './icons';
import { type Manifest } from './messages';
import { type IRuntimeApi, type IRuntimeManager } from './runtime';

/** Lists runtimes; asks the server when the list is refreshed. */
export class RunningRuntimes implements IRunningSessions.IManager {
  constructor(options: RunningRuntimes.IOptions) {
    this._api = options.manager.api;
    this._sessions = options.sessions;
    this._open = options.open;
    this._trans = options.trans;
    this.name = this._trans.__('Runtimes');
    this.shutdownLabel = this._trans.__('Stop');
    this.shutdownAllLabel = this._trans.__('Stop All');
    this.shutdownAllConfirmationText = this._trans.__(
      'Stop the runtimes of all notebooks? Their kernels and variables stay.'
    );
    this._sessions.runningChanged.connect(() => {
      this.refreshRunning();
    });
    options.manager.changed.connect((_, reading) => {
      // A runtime is there some seconds after its kernel, and may go before it.
      const shown = reading.view?.status.runtime_id ?? null;
      if (shown !== this._shown) {
        this._shown = shown;
        this.refreshRunning();
      }
    });
  }

  readonly name: string;
  readonly shutdownLabel: string;
  readonly shutdownAllLabel: string;
  readonly shutdownAllConfirmationText: string;
  readonly runningChanged = new Signal<this, void>(this);

  running(): IRunningSessions.IRunningItem[] {
    return this._manifests.map(manifest => {
      const kernelId = manifest.owner.kernel_id ?? '';
      const session = [...this._sessions.running()].find(each => each.kernel?.id === kernelId);
      return {
        icon: () => heliostatIcon,
        label: () => session?.name ?? kernelId,
        labelTitle: () => this._trans.__('Runtime %1', manifest.runtime_id),
        open: () => {
          this._open(session ?? null);
        },
        shutdown: () => {
          void this._stop(kernelId);
        }
      };
    });
  }

  refreshRunning(): void {
    void this._refresh();
  }

  shutdownAll(): void {
    for (const { owner } of this._manifests) {
      void this._stop(owner.kernel_id ?? '');
    }
  }

  private async _stop(kernelId: string): Promise<void> {
    await this._api.stop(kernelId);
    this._manifests = this._manifests.filter(({ owner }) => owner.kernel_id !== kernelId);
    this.runningChanged.emit();
  }

  private async _refresh(): Promise<void> {
    this._manifests = await this._api.runtimes().catch(() => this._manifests);
    this.runningChanged.emit();
  }

  private readonly _api: IRuntimeApi;
  private _manifests: Manifest[] = [];
  private _shown: string | null = null;
  private readonly _open: (session: Session.IModel | null) => void;
  private readonly _sessions: Session.IManager;
  private readonly _trans: TranslationBundle;
}

export namespace RunningRuntimes {
  export interface IOptions {
    manager: IRuntimeManager;
    /** Show the notebook of a session, and the panel. */
    open: (session: Session.IModel | null) => void;
    sessions: Session.IManager;
    trans: TranslationBundle;
  }
}
