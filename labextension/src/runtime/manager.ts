/** Owns what is known about the runtime behind one kernel, and keeps it fresh. */
import { Token } from '@lumino/coreutils';
import { type IDisposable } from '@lumino/disposable';
import { type ISignal, Signal } from '@lumino/signaling';

import {
  type CellAccount,
  type KernelEnd,
  type Node,
  type Rank,
  type RuntimeView,
  type Sample,
  type StreamUpdate,
  type Work
} from '../messages';
import { type IRuntimeApi } from './restapi';
import { type Connection, type RuntimeStream } from './stream';

/** The supervisor keeps readings for so long; more would be a memory of our own. */
export const HISTORY_SECONDS = 900;

/** What is younger is never called stale. */
export const SECONDS_FRESH = 5;

/** What was last learnt about a kernel's runtime. */
export interface IReading {
  /** The kernel that is followed; `null` when there is none. */
  readonly kernelId: string | null;
  /** The last answer; `null` when the kernel has no runtime or nothing was learnt yet. */
  readonly view: RuntimeView | null;
  /** When news arrived last, in seconds of the browser's clock. */
  readonly receivedAt: number;
  /** Seconds that the server's clock is ahead of the browser's. */
  readonly ahead: number;
  /** Whether anything was heard about this kernel. */
  readonly isKnown: boolean;
  /** Readings of the last 15 minutes, oldest first. */
  readonly history: readonly Sample[];
  readonly nodes: readonly Node[];
  readonly cells: readonly CellAccount[];
  readonly work: readonly Work[];
  /** The processes behind `%%distribute`. */
  readonly ranks: readonly Rank[];
  /** How the kernel died, until it has a runtime again. */
  readonly kernelEnd: KernelEnd | null;
  /** Why there is no news; `null` when there is. */
  readonly problem: string | null;
}

/** Follows one kernel at a time. */
export interface IRuntimeManager extends IDisposable {
  readonly api: IRuntimeApi;
  readonly connection: Connection;
  readonly reading: IReading;
  /** Emitted when `reading` or `connection` is another one. */
  readonly changed: ISignal<IRuntimeManager, IReading>;
  /** Seconds between two readings. */
  interval: number;
  /** Follow another kernel; what was known about the former is dropped. */
  follow(kernelId: string | null): void;
  /** Ask anew for everything, at once. */
  refresh(): void;
}

export const IRuntimeManager = new Token<IRuntimeManager>(
  'heliostat:IRuntimeManager',
  'Follows the Heliostat runtime behind the kernel of the focused notebook or console.'
);

/** Listens to a stream that it owns. */
export class RuntimeManager implements IRuntimeManager {
  constructor(options: RuntimeManager.IOptions) {
    this.api = options.api;
    this._stream = options.stream;
    this._interval = options.interval ?? 1;
    this._stream.updated.connect(this._onUpdate, this);
    this._stream.failed.connect(this._onFailure, this);
    this._stream.connectionChanged.connect(this._onConnection, this);
    this._clock = setInterval(() => {
      this._onTick();
    }, 1000);
  }

  readonly api: IRuntimeApi;

  get connection(): Connection {
    return this._stream.connection;
  }

  get reading(): IReading {
    return this._reading;
  }

  get changed(): ISignal<this, IReading> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._stream.isDisposed;
  }

  get interval(): number {
    return this._interval;
  }

  set interval(seconds: number) {
    const { kernelId } = this._reading;
    if (seconds !== this._interval) {
      this._interval = seconds;
      if (kernelId !== null) {
        this._stream.follow(kernelId, seconds);
      }
    }
  }

  follow(kernelId: string | null): void {
    const before = this._reading.kernelId;
    if (this.isDisposed || kernelId === before) {
      return;
    }
    this._set({ ...NOTHING, kernelId });
    if (before !== null) {
      this._stream.unfollow(before);
    }
    if (kernelId !== null) {
      this._stream.follow(kernelId, this._interval);
    }
  }

  refresh(): void {
    if (this._reading.kernelId !== null) {
      this._stream.refresh();
    }
  }

  dispose(): void {
    if (!this.isDisposed) {
      clearInterval(this._clock);
      this._stream.dispose();
      Signal.clearData(this);
    }
  }

  private _onUpdate(_: RuntimeStream, update: StreamUpdate): void {
    if (update.kernel_id === this._reading.kernelId) {
      this._set(Private.merge(this._reading, update, Date.now() / 1000));
    }
  }

  private _onFailure(_: RuntimeStream, problem: string): void {
    this._set({ ...this._reading, problem });
  }

  /** Without news what is shown grows older, and whoever shows it has to say so. */
  private _onTick(): void {
    const isHidden = typeof document !== 'undefined' && document.hidden;
    const age = Date.now() / 1000 - this._reading.receivedAt;
    if (this._reading.view !== null && !isHidden && age > SECONDS_FRESH) {
      this._changed.emit(this._reading);
    }
  }

  private _onConnection(): void {
    this._changed.emit(this._reading);
  }

  private _set(reading: IReading): void {
    this._reading = reading;
    this._changed.emit(reading);
  }

  private readonly _changed = new Signal<this, IReading>(this);
  private readonly _clock: ReturnType<typeof setInterval>;
  private _interval: number;
  private _reading: IReading = NOTHING;
  private readonly _stream: RuntimeStream;
}

export namespace RuntimeManager {
  export interface IOptions {
    api: IRuntimeApi;
    /** Seconds between two readings; 1 when not given. */
    interval?: number;
    /** Disposed with the manager. */
    stream: RuntimeStream;
  }
}

/** Nothing is known. */
export const NOTHING: IReading = {
  kernelId: null,
  view: null,
  receivedAt: 0,
  ahead: 0,
  isKnown: false,
  history: [],
  nodes: [],
  cells: [],
  work: [],
  ranks: [],
  kernelEnd: null,
  problem: null
};

namespace Private {
  /** What is known once `update` has come at `now`, by the browser's clock. */
  export function merge(known: IReading, update: StreamUpdate, now: number): IReading {
    const heard = { ...known, isKnown: true, receivedAt: now, ahead: update.at - now };
    if (update.kernel_end) {
      return { ...heard, kernelEnd: update.kernel_end };
    }
    if (update.present === false) {
      return { ...heard, view: null, history: [], nodes: [], problem: null };
    }
    if (update.problem) {
      const problem = [update.problem.message, update.problem.action].filter(Boolean).join(' ');
      return { ...known, isKnown: true, problem };
    }
    const status = update.status ?? known.view?.status;
    if (!status) {
      return heard;
    }
    const isNew = status.runtime_id !== known.view?.status.runtime_id;
    const history = append(isNew ? [] : known.history, update.samples ?? []);
    return {
      ...heard,
      view: { at: update.at, status, sample: history.at(-1) ?? null },
      history,
      nodes: update.nodes ?? (isNew ? [] : known.nodes),
      cells: update.cells ?? (isNew ? [] : known.cells),
      work: update.work ?? (isNew ? [] : known.work),
      ranks: update.ranks ?? (isNew ? [] : known.ranks),
      kernelEnd: isNew ? null : known.kernelEnd,
      problem: null
    };
  }

  /** Readings may come twice, after a break: each time counts once. */
  function append(known: readonly Sample[], more: readonly Sample[]): readonly Sample[] {
    const latest = known.at(-1)?.at ?? -Infinity;
    const fresh = more.filter(sample => sample.at > latest);
    const newest = fresh.at(-1);
    if (newest === undefined) {
      return known;
    }
    const oldest = newest.at - HISTORY_SECONDS;
    return [...known, ...fresh].filter(sample => sample.at >= oldest);
  }
}
