/** What the panel does in the focused notebook: find cells, go to them, insert code, run code. */
import { Clipboard, Dialog, showDialog } from '@jupyterlab/apputils';
import { type Cell } from '@jupyterlab/cells';
import { type INotebookTracker, NotebookActions, type NotebookPanel } from '@jupyterlab/notebook';
import { type Session } from '@jupyterlab/services';
import { type ISettingRegistry } from '@jupyterlab/settingregistry';
import { type TranslationBundle } from '@jupyterlab/translation';

import { type KernelFollower } from './follow';
import { type CellAccount } from './messages';
import { type IPanelActions, type IPanelSettings } from './panel';

const LONGEST_NAME = 40;
const METADATA = 'heliostat';

/** Acts on the notebook that is followed. */
export class NotebookActionsOfPanel implements IPanelActions {
  constructor(options: NotebookActionsOfPanel.IOptions) {
    this._follower = options.follower;
    this._tracker = options.tracker;
    this._trans = options.trans;
    this._pluginId = options.pluginId;
    this._sessions = options.sessions;
    this._settings = options.settingRegistry;
  }

  async run(code: string): Promise<void> {
    const kernel = this._follower.current?.sessionContext.session?.kernel;
    if (!kernel) {
      throw new Error(this._trans.__('There is no kernel to run this in.'));
    }
    const load = '%load_ext heliostat';
    const future = kernel.requestExecute({ code: `${load}\n${code}`, store_history: false });
    const reply = await future.done;
    if (reply.content.status === 'error') {
      throw new Error(`${reply.content.ename}: ${reply.content.evalue}`);
    }
  }

  insert(code: string): void {
    const notebook = this._notebook?.content;
    if (notebook) {
      NotebookActions.insertBelow(notebook);
      notebook.activeCell?.model.sharedModel.setSource(code);
    }
  }

  copy(text: string): void {
    Clipboard.copyToSystem(text);
  }

  reveal(cellId: string): void {
    const notebook = this._notebook?.content;
    const index = notebook?.widgets.findIndex(cell => cell.model.id === cellId) ?? -1;
    if (notebook && index >= 0) {
      notebook.activeCellIndex = index;
      notebook.deselectAll();
      void notebook.scrollToItem(index, 'smart');
    }
  }

  describeCell(cellId: string): string | null {
    const cell = this._notebook?.content.widgets.find(each => each.model.id === cellId);
    return cell ? Private.describe(cell) : null;
  }

  nameOfKernel(kernelId: string): string | null {
    for (const session of this._sessions.running()) {
      if (session.kernel?.id === kernelId) {
        return session.name || session.path;
      }
    }
    return null;
  }

  async confirm(title: string, body: string, action: string): Promise<boolean> {
    const buttons = [
      Dialog.cancelButton({ label: this._trans.__('Cancel') }),
      Dialog.warnButton({ label: action })
    ];
    return (await showDialog({ title, body, buttons })).button.accept;
  }

  save(settings: Partial<Pick<IPanelSettings, 'sections' | 'folded'>>): void {
    for (const [name, value] of Object.entries(settings)) {
      void this._settings?.set(this._pluginId, name, [...value]);
    }
  }

  /** Keep in each cell's metadata what it used. */
  store(cells: readonly CellAccount[]): void {
    for (const account of cells) {
      if (account.ended_at === null) {
        continue;
      }
      const cell = this._notebook?.content.widgets.find(each => each.model.id === account.cell_id);
      const used = Object.fromEntries(
        Object.entries(account).filter(([name]) => name !== 'cell_id')
      );
      if (cell && JSON.stringify(cell.model.getMetadata(METADATA)) !== JSON.stringify(used)) {
        cell.model.setMetadata(METADATA, used);
      }
    }
  }

  /** The notebook that is followed; `null` where that is a console. */
  private get _notebook(): NotebookPanel | null {
    const current = this._tracker.currentWidget;
    return current === this._follower.current ? current : null;
  }

  private readonly _follower: KernelFollower;
  private readonly _pluginId: string;
  private readonly _sessions: Session.IManager;
  private readonly _settings: ISettingRegistry | null;
  private readonly _tracker: INotebookTracker;
  private readonly _trans: TranslationBundle;
}

export namespace NotebookActionsOfPanel {
  export interface IOptions {
    follower: KernelFollower;
    /** The plugin whose settings the panel's are. */
    pluginId: string;
    sessions: Session.IManager;
    settingRegistry: ISettingRegistry | null;
    tracker: INotebookTracker;
    trans: TranslationBundle;
  }
}

namespace Private {
  export function describe(cell: Cell): string {
    const lines = cell.model.sharedModel.getSource().split('\n');
    const first = lines.find(line => line.trim() !== '') ?? '';
    const text = first.length > LONGEST_NAME ? `${first.slice(0, LONGEST_NAME)}…` : first;
    const count: unknown = (cell.model.toJSON() as { execution_count?: unknown }).execution_count;
    return `[${typeof count === 'number' ? count.toString() : ' '}] ${text}`;
  }
}
