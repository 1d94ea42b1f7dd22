/** The status item: renders its model and does nothing else. */
import { VDomRenderer } from '@jupyterlab/ui-components';
import React from 'react';

import { heliostatIcon } from '../icons';
import { type RuntimeStatusModel } from './model';

const ITEM_CLASS = 'heliostat-StatusItem';
const TEXT_CLASS = 'heliostat-StatusItem-text';

/** Shows the runtime of the focused notebook in the status bar; a click opens the panel. */
export class RuntimeStatusItem extends VDomRenderer<RuntimeStatusModel> {
  constructor(model: RuntimeStatusModel, onClick: () => void) {
    super(model);
    this._onClick = onClick;
  }

  protected override render(): React.JSX.Element | null {
    const { words } = this.model;
    return words === null ? null : (
      <button
        type="button"
        className={ITEM_CLASS}
        data-state={words.state}
        data-stale={words.stale}
        data-testid="heliostat-status"
        title={words.title}
        onClick={this._onClick}
      >
        <heliostatIcon.react tag="span" width="14px" height="14px" aria-hidden="true" />
        <span className={TEXT_CLASS}>{words.text}</span>
      </button>
    );
  }

  private readonly _onClick: () => void;
}
