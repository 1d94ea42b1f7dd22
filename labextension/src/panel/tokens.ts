/** What the panel is told by the user, and what it may do outside of itself. */
import { type IThresholds } from './figures';
import { type ByteUnits } from './format';

/** What the user set for the panel. */
export interface IPanelSettings {
  readonly historyMinutes: number;
  readonly units: ByteUnits;
  readonly thresholds: IThresholds;
  readonly sections: readonly string[];
  readonly folded: readonly string[];
}

export const DEFAULT_SETTINGS: IPanelSettings = {
  historyMinutes: 15,
  units: 'binary',
  thresholds: { high: 0.8, critical: 0.93 },
  sections: [],
  folded: []
};

/** What the panel does outside of itself. */
export interface IPanelActions {
  /** Run code in the followed kernel, as the user would in a cell. */
  run(code: string): Promise<void>;
  /** Put code into the focused notebook as a new cell. */
  insert(code: string): void;
  copy(text: string): void;
  /** Show a cell by its id. */
  reveal(cellId: string): void;
  /** A line for a cell, such as `[3] model.fit(`; `null` when the notebook has no such cell. */
  describeCell(cellId: string): string | null;
  /** Name of the notebook or console of a kernel; `null` when it has none on this server. */
  nameOfKernel(kernelId: string): string | null;
  /** Ask before something is lost. */
  confirm(title: string, body: string, action: string): Promise<boolean>;
  save(settings: Partial<Pick<IPanelSettings, 'sections' | 'folded'>>): void;
}
