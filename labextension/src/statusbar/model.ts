/** What the status item shows now, and when that changes. */
import { type TranslationBundle } from '@jupyterlab/translation';
import { VDomModel } from '@jupyterlab/ui-components';

import { type IRuntimeManager } from '../runtime';
import { describe, type IWords } from './words';

/** Model of the status item. Follows a manager that it does not own. */
export class RuntimeStatusModel extends VDomModel {
  constructor(options: RuntimeStatusModel.IOptions) {
    super();
    this._manager = options.manager;
    this._trans = options.trans;
    this._manager.changed.connect(this._update, this);
    this._update();
  }

  /** What to show; `null` when there is no runtime. */
  get words(): IWords | null {
    return this._words;
  }

  override dispose(): void {
    if (!this.isDisposed) {
      this._manager.changed.disconnect(this._update, this);
      super.dispose();
    }
  }

  private _update(): void {
    const { reading, interval } = this._manager;
    this._words = describe(reading, Date.now() / 1000, interval, this._trans);
    this.stateChanged.emit();
  }

  private readonly _manager: IRuntimeManager;
  private readonly _trans: TranslationBundle;
  private _words: IWords | null = null;
}

export namespace RuntimeStatusModel {
  export interface IOptions {
    manager: IRuntimeManager;
    trans: TranslationBundle;
  }
}
