/** The commands of the extension: what the palette, the toolbar and other extensions can call. */
import { type JupyterFrontEnd } from '@jupyterlab/application';
import { type ICommandPalette } from '@jupyterlab/apputils';
import { type TranslationBundle } from '@jupyterlab/translation';

import { heliostatIcon } from './icons';
import { type PanelModel } from './panel';

export namespace CommandIDs {
  export const showPanel = 'heliostat:show-panel';
  export const refresh = 'heliostat:refresh';
  export const restart = 'heliostat:restart-runtime';
  export const stop = 'heliostat:stop-runtime';
  export const start = 'heliostat:start-runtime';
}

/** Register the commands, and list them in the palette where there is one. */
export function addCommands(
  app: JupyterFrontEnd,
  model: PanelModel,
  showPanel: () => void,
  palette: ICommandPalette | null,
  trans: TranslationBundle
): void {
  const describedBy = { args: { type: 'object', properties: {} } };
  const hasKernel = (): boolean => model.reading.kernelId !== null;
  const hasRuntime = (): boolean => model.reading.view !== null;
  app.commands.addCommand(CommandIDs.showPanel, {
    label: trans.__('Show Runtime'),
    caption: trans.__('Show state, use and size of the runtime behind this notebook'),
    icon: heliostatIcon,
    describedBy,
    execute: showPanel
  });
  app.commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh Runtime Status'),
    caption: trans.__('Ask the runtime of the focused notebook for its state now'),
    isEnabled: hasKernel,
    describedBy,
    execute: () => {
      model.manager.refresh();
    }
  });
  app.commands.addCommand(CommandIDs.restart, {
    label: trans.__('Restart Runtime…'),
    caption: trans.__('Take the runtime down and boot it again; variables of the notebook stay'),
    isEnabled: hasRuntime,
    describedBy,
    execute: () => model.restart()
  });
  app.commands.addCommand(CommandIDs.stop, {
    label: trans.__('Stop Runtime…'),
    caption: trans.__('Take the runtime down; the kernel and its variables stay'),
    isEnabled: hasRuntime,
    describedBy,
    execute: () => model.stop()
  });
  app.commands.addCommand(CommandIDs.start, {
    label: trans.__('Start Runtime'),
    caption: trans.__('Start a runtime behind the focused notebook'),
    isEnabled: () => hasKernel() && !hasRuntime(),
    describedBy,
    execute: () => model.start()
  });
  for (const command of Object.values(CommandIDs)) {
    palette?.addItem({ command, category: trans.__('Heliostat') });
  }
}
