/** The plugins of the extension: the service, and one for each thing that a user sees. */
import { type JupyterFrontEnd, type JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { INotebookTracker } from '@jupyterlab/notebook';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { KernelFollower } from './follow';
import { heliostatIcon } from './icons';
import { IRuntimeManager, RuntimeApi, RuntimeManager } from './runtime';
import { RuntimeStatusItem, RuntimeStatusModel } from './statusbar';

export { IRuntimeManager } from './runtime';

const DOMAIN = 'heliostat';

namespace CommandIDs {
  export const refresh = 'heliostat:refresh';
}

const runtime: JupyterFrontEndPlugin<IRuntimeManager> = {
  id: 'heliostat:runtime',
  description: 'Follows the Heliostat runtime behind the kernel of the focused notebook.',
  autoStart: true,
  provides: IRuntimeManager,
  requires: [INotebookTracker],
  optional: [ISettingRegistry, ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    tracker: INotebookTracker,
    settingRegistry: ISettingRegistry | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ): IRuntimeManager => {
    const trans = (translator ?? nullTranslator).load(DOMAIN);
    const api = new RuntimeApi({ serverSettings: app.serviceManager.serverSettings });
    const manager = new RuntimeManager({ api });
    new KernelFollower(tracker, manager);
    app.commands.addCommand(CommandIDs.refresh, {
      label: trans.__('Refresh Runtime Status'),
      caption: trans.__('Ask the runtime of the focused notebook for its state now'),
      icon: heliostatIcon,
      isEnabled: () => manager.reading.kernelId !== null,
      describedBy: { args: { type: 'object', properties: {} } },
      execute: () => manager.refresh()
    });
    palette?.addItem({ command: CommandIDs.refresh, category: trans.__('Heliostat') });
    void Private.applySettings(settingRegistry, manager);
    return manager;
  }
};

const statusBar: JupyterFrontEndPlugin<void> = {
  id: 'heliostat:status-bar',
  description: 'Shows state and use of the Heliostat runtime in the status bar.',
  autoStart: true,
  requires: [IRuntimeManager],
  optional: [IStatusBar, ITranslator],
  activate: (
    _: JupyterFrontEnd,
    manager: IRuntimeManager,
    bar: IStatusBar | null,
    translator: ITranslator | null
  ): void => {
    if (bar === null) {
      return;
    }
    const trans = (translator ?? nullTranslator).load(DOMAIN);
    const model = new RuntimeStatusModel({ manager, trans });
    bar.registerStatusItem(statusBar.id, {
      item: new RuntimeStatusItem(model),
      align: 'left',
      rank: 50,
      isActive: () => model.words !== null,
      activeStateChanged: model.stateChanged
    });
  }
};

const plugins: JupyterFrontEndPlugin<unknown>[] = [runtime, statusBar];
export default plugins;

namespace Private {
  /** Keep the manager's pace as the user set it. */
  export async function applySettings(
    registry: ISettingRegistry | null,
    manager: IRuntimeManager
  ): Promise<void> {
    if (registry === null) {
      return;
    }
    const settings = await registry.load(runtime.id);
    const apply = (): void => {
      manager.interval = settings.get('interval').composite as number;
    };
    settings.changed.connect(apply);
    apply();
  }
}
