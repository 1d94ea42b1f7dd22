/** The panel as a widget of the side bar: renders its model while it can be seen. */
import { VDomRenderer } from '@jupyterlab/ui-components';
import { type Message } from '@lumino/messaging';
import React from 'react';

import { heliostatIcon } from '../icons';
import { PanelBody } from './body';
import { type PanelModel } from './model';

export const PANEL_ID = 'heliostat-panel';

export class RuntimePanel extends VDomRenderer<PanelModel> {
  constructor(model: PanelModel) {
    super(model);
    this.id = PANEL_ID;
    this.addClass('heliostat-Panel');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', model.trans.__('Heliostat runtime'));
    this.title.icon = heliostatIcon;
    this.title.caption = model.trans.__('Heliostat runtime');
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.model.isVisible = true;
  }

  protected override onAfterHide(message: Message): void {
    super.onAfterHide(message);
    this.model.isVisible = false;
  }

  protected override onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    this.model.isVisible = this.isVisible;
  }

  protected override render(): React.JSX.Element {
    return <PanelBody model={this.model} />;
  }
}
