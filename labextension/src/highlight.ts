/** Shows cells of SQL as SQL: a cell that begins with `%%sql` or `%%hsql` has SQL's colours. */
import { type Cell, type ICellModel } from '@jupyterlab/cells';
import { type INotebookTracker, type Notebook, type NotebookPanel } from '@jupyterlab/notebook';

const SQL = 'text/x-sql';
const MAGIC = /^\s*%%h?sql\b/;

/** Follow every notebook that is or will be opened. */
export function highlightSql(tracker: INotebookTracker): void {
  const follow = (panel: NotebookPanel): void => {
    Private.followNotebook(panel.content);
  };
  tracker.forEach(follow);
  tracker.widgetAdded.connect((_, panel) => {
    follow(panel);
  });
}

/** Whether a cell's text is SQL. */
export function isSql(source: string): boolean {
  return MAGIC.test(source);
}

namespace Private {
  /** Cells that are followed, each with the type that it has when it is not SQL. */
  const types = new WeakMap<ICellModel, string>();

  export function followNotebook(notebook: Notebook): void {
    const followAll = (): void => {
      notebook.widgets.forEach(followCell);
    };
    followAll();
    // Cells that come, and those of a document that is read anew.
    notebook.modelChanged.connect(followAll);
    notebook.modelContentChanged.connect(followAll);
  }

  function followCell(cell: Cell): void {
    const model = cell.model;
    if (model.type !== 'code' || types.has(model)) {
      return;
    }
    types.set(model, model.mimeType);
    // The kernel's language becomes known later than the cell.
    model.mimeTypeChanged.connect(() => {
      if (model.mimeType !== SQL) {
        types.set(model, model.mimeType);
        adjust(model);
      }
    });
    model.contentChanged.connect(() => {
      adjust(model);
    });
    adjust(model);
  }

  function adjust(model: ICellModel): void {
    const wanted = isSql(model.sharedModel.getSource()) ? SQL : types.get(model);
    if (wanted !== undefined && model.mimeType !== wanted) {
      model.mimeType = wanted;
    }
  }
}
