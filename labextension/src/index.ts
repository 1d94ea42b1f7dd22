/** The plugins of the extension: the service, and one for each thing that a user sees. */
import {
  ILabShell,
  type JupyterFrontEnd,
  type JupyterFrontEndPlugin
} from '@jupyterlab/application';
import { ICommandPalette } from '@jupyterlab/apputils';
import { IConsoleTracker } from '@jupyterlab/console';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRunningSessionManagers } from '@jupyterlab/running';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Token } from '@lumino/coreutils';

import { addCommands, CommandIDs } from './commands';
import { KernelFollower } from './follow';
import { highlightSql } from './highlight';
import { NotebookActionsOfPanel } from './notebook';
import { DEFAULT_SETTINGS, type IPanelSettings, PanelModel, RuntimePanel } from './panel';
import { RunningRuntimes } from './running';
import { IRuntimeManager, RuntimeApi, RuntimeManager, RuntimeStream } from './runtime';
import { RuntimeStatusItem, RuntimeStatusModel } from './statusbar';

export { IRuntimeManager } from './runtime';

const DOMAIN = 'heliostat';

/** Keeps the manager on the focused widget's kernel. */
const IFollower = new Token<KernelFollower>('heliostat:IFollower');

const service: JupyterFrontEndPlugin<IRuntimeManager> = {
  id: 'heliostat:service',
  description: 'Follows Heliostat runtimes on one connection to the server.',
  autoStart: true,
  provides: IRuntimeManager,
  activate: (app: JupyterFrontEnd): IRuntimeManager => {
    const { serverSettings } = app.serviceManager;
    const stream = new RuntimeStream({ serverSettings });
    return new RuntimeManager({ api: new RuntimeApi({ serverSettings }), stream });
  }
};

const follower: JupyterFrontEndPlugin<KernelFollower> = {
  id: 'heliostat:follower',
  description: 'Chooses the runtime behind the focused notebook or console.',
  autoStart: true,
  provides: IFollower,
  requires: [IRuntimeManager, INotebookTracker],
  optional: [IConsoleTracker],
  activate: (
    app: JupyterFrontEnd,
    manager: IRuntimeManager,
    notebooks: INotebookTracker,
    consoles: IConsoleTracker | null
  ): KernelFollower =>
    new KernelFollower(consoles ? [notebooks, consoles] : [notebooks], manager, app.shell)
};

const runtime: JupyterFrontEndPlugin<void> = {
  id: 'heliostat:runtime',
  description: 'The panel: state, use, size and work of the runtime behind the focused notebook.',
  autoStart: true,
  requires: [IRuntimeManager, IFollower, INotebookTracker],
  optional: [ISettingRegistry, ITranslator, ICommandPalette, ILabShell],
  activate: async (
    app: JupyterFrontEnd,
    manager: IRuntimeManager,
    kernelFollower: KernelFollower,
    tracker: INotebookTracker,
    settingRegistry: ISettingRegistry | null,
    translator: ITranslator | null,
    palette: ICommandPalette | null,
    labShell: ILabShell | null
  ): Promise<void> => {
    const trans = (translator ?? nullTranslator).load(DOMAIN);
    const actions = new NotebookActionsOfPanel({
      follower: kernelFollower,
      pluginId: runtime.id,
      sessions: app.serviceManager.sessions,
      settingRegistry,
      tracker,
      trans
    });
    const model = new PanelModel({ actions, manager, trans });
    const panel = new RuntimePanel(model);
    app.shell.add(panel, 'right', { rank: 550 });
    const show = (): void => {
      app.shell.activateById(panel.id);
      labShell?.expandRight();
    };
    addCommands(app, model, show, palette, trans);
    if (settingRegistry !== null) {
      const settings = await settingRegistry.load(runtime.id);
      const apply = (): void => {
        const { composite } = settings;
        manager.interval = composite['interval'] as number;
        model.settings = { ...DEFAULT_SETTINGS, ...(composite as Partial<IPanelSettings>) };
      };
      settings.changed.connect(apply);
      apply();
      manager.changed.connect((_, reading) => {
        if (settings.composite['storeUseInCells'] === true) {
          actions.store(reading.cells);
        }
      });
    }
  }
};

const statusBar: JupyterFrontEndPlugin<void> = {
  id: 'heliostat:status-bar',
  description: 'Shows state and use of the Heliostat runtime in the status bar.',
  autoStart: true,
  requires: [IRuntimeManager],
  optional: [IStatusBar, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    manager: IRuntimeManager,
    bar: IStatusBar | null,
    translator: ITranslator | null
  ): void => {
    if (bar === null) {
      return;
    }
    const trans = (translator ?? nullTranslator).load(DOMAIN);
    const model = new RuntimeStatusModel({ manager, trans });
    const show = (): void => {
      void app.commands.execute(CommandIDs.showPanel);
    };
    bar.registerStatusItem(statusBar.id, {
      item: new RuntimeStatusItem(model, show),
      align: 'left',
      rank: 50,
      isActive: () => model.words !== null,
      activeStateChanged: model.stateChanged
    });
  }
};

const running: JupyterFrontEndPlugin<void> = {
  id: 'heliostat:running',
  description: 'Lists the runtimes of this server among what runs.',
  autoStart: true,
  requires: [IRuntimeManager],
  optional: [IRunningSessionManagers, ITranslator],
  activate: (
    app: JupyterFrontEnd,
    manager: IRuntimeManager,
    managers: IRunningSessionManagers | null,
    translator: ITranslator | null
  ): void => {
    const trans = (translator ?? nullTranslator).load(DOMAIN);
    managers?.add(
      new RunningRuntimes({
        manager,
        open: session => {
          if (session) {
            void app.commands.execute('docmanager:open', { path: session.path });
          }
          void app.commands.execute(CommandIDs.showPanel);
        },
        sessions: app.serviceManager.sessions,
        trans
      })
    );
  }
};

const highlight: JupyterFrontEndPlugin<void> = {
  id: 'heliostat:highlight',
  description: 'Shows cells that begin with %%sql in the colours of SQL.',
  autoStart: true,
  requires: [INotebookTracker],
  activate: (_: JupyterFrontEnd, tracker: INotebookTracker): void => {
    highlightSql(tracker);
  }
};

const plugins: JupyterFrontEndPlugin<unknown>[] = [
  service,
  follower,
  runtime,
  statusBar,
  running,
  highlight
];
export default plugins;
