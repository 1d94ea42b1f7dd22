/** Owns what is known about the runtime behind one kernel, and keeps it fresh. */
import { JSONExt, type ReadonlyPartialJSONValue, Token } from '@lumino/coreutils';
import { type IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { type ISignal, Signal } from '@lumino/signaling';

import { type RuntimeView } from '../messages';
import { type IRuntimeApi } from './restapi';

/** Between two attempts at a server that does not answer, at most. */
const MAX_SECONDS = 30;
/** While a runtime boots, stops or resizes, its steps are worth seeing. */
const SECONDS_IN_CHANGE = 0.25;
/** A kernel that starts has no runtime at first, or still its former one: expect a new one for so long. */
const SECONDS_OF_HOPE = 10;

/** What was last learnt about a kernel's runtime. */
export interface IReading {
  /** The kernel that is followed; `null` when there is none. */
  readonly kernelId: string | null;
  /** The last answer; `null` when the kernel has no runtime or nothing was learnt yet. */
  readonly view: RuntimeView | null;
  /** When `view` arrived, in seconds of the browser's clock. */
  readonly receivedAt: number;
  /** Why the last attempt brought nothing new; `null` when it did. */
  readonly problem: string | null;
}

/** Follows one kernel at a time. */
export interface IRuntimeManager extends IDisposable {
  readonly reading: IReading;
  /** Emitted when `reading` is another one. */
  readonly changed: ISignal<IRuntimeManager, IReading>;
  /** Seconds between two readings of a runtime at rest. */
  interval: number;
  /** Follow another kernel; what was known about the former is dropped. */
  follow(kernelId: string | null): void;
  /** Ask now. */
  refresh(): Promise<void>;
}

export const IRuntimeManager = new Token<IRuntimeManager>(
  'heliostat:IRuntimeManager',
  'Follows the Heliostat runtime behind the kernel of the focused notebook.'
);

/** Asks the server by polling, and stops while the page is hidden. */
export class RuntimeManager implements IRuntimeManager {
  constructor(options: RuntimeManager.IOptions) {
    this._api = options.api;
    this._hope = options.hope ?? SECONDS_OF_HOPE;
    this._interval = options.interval ?? 2;
    this._poll = new Poll({
      auto: false,
      factory: () => this._ask(),
      frequency: { interval: this._interval * 1000, backoff: true, max: MAX_SECONDS * 1000 },
      name: 'heliostat:RuntimeManager',
      standby: options.standby ?? 'when-hidden'
    });
  }

  get reading(): IReading {
    return this._reading;
  }

  get changed(): ISignal<this, IReading> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  get interval(): number {
    return this._interval;
  }

  set interval(seconds: number) {
    this._interval = seconds;
    this._pace();
  }

  follow(kernelId: string | null): void {
    if (this.isDisposed || kernelId === this._reading.kernelId) {
      return;
    }
    this._set({ ...Private.NOTHING, kernelId });
    this._hopeUntil = Private.now() + this._hope;
    this._pace();
    void (kernelId === null ? this._poll.stop() : this._poll.refresh());
  }

  async refresh(): Promise<void> {
    if (this._reading.kernelId !== null && !this.isDisposed) {
      await this._poll.refresh();
      await this._poll.tick;
    }
  }

  dispose(): void {
    if (!this.isDisposed) {
      this._poll.dispose();
      Signal.clearData(this);
    }
  }

  /** One attempt. Rejects when it brought no runtime, so that the poll waits longer. */
  private async _ask(): Promise<void> {
    const { kernelId } = this._reading;
    if (kernelId === null) {
      return;
    }
    let view: RuntimeView | null;
    try {
      view = await this._api.view(kernelId);
    } catch (reason) {
      if (!this._isPast(kernelId)) {
        const problem = reason instanceof Error ? reason.message : String(reason);
        this._set({ ...this._reading, problem });
      }
      throw reason;
    }
    if (this._isPast(kernelId)) {
      return;
    }
    this._set({ kernelId, view, receivedAt: Private.now(), problem: null });
    this._pace();
    if (view === null && !this._isHopeful()) {
      throw new Error(`Kernel ${kernelId} has no runtime.`);
    }
  }

  private _isPast(kernelId: string): boolean {
    return this.isDisposed || kernelId !== this._reading.kernelId;
  }

  private _isHopeful(): boolean {
    return Private.now() < this._hopeUntil;
  }

  private _pace(): void {
    const state = this._reading.view?.status.state;
    const inChange = state === 'starting' || state === 'stopping' || state === 'resizing';
    const isQuick = inChange || this._isHopeful();
    const seconds = isQuick ? Math.min(SECONDS_IN_CHANGE, this._interval) : this._interval;
    const interval = seconds * 1000;
    if (this._poll.frequency.interval !== interval) {
      const max = Math.max(MAX_SECONDS * 1000, interval);
      this._poll.frequency = { backoff: true, interval, max };
    }
  }

  private _set(reading: IReading): void {
    if (!Private.isEqual(reading, this._reading)) {
      this._reading = reading;
      this._changed.emit(reading);
    }
  }

  private readonly _api: IRuntimeApi;
  private readonly _changed = new Signal<this, IReading>(this);
  private readonly _hope: number;
  private _hopeUntil = 0;
  private _interval: number;
  private readonly _poll: Poll;
  private _reading: IReading = Private.NOTHING;
}

export namespace RuntimeManager {
  export interface IOptions {
    api: IRuntimeApi;
    /** For how many seconds a new runtime is expected once a kernel is followed; 10 when not given. */
    hope?: number;
    /** Seconds between two readings; 2 when not given. */
    interval?: number;
    /** When not to poll at all; while the page is hidden when not given. */
    standby?: Poll.Standby;
  }
}

namespace Private {
  export const NOTHING: IReading = { kernelId: null, view: null, receivedAt: 0, problem: null };

  export function now(): number {
    return Date.now() / 1000;
  }

  export function isEqual(a: IReading, b: IReading): boolean {
    const json = (reading: IReading) => reading as unknown as ReadonlyPartialJSONValue;
    return JSONExt.deepEqual(json(a), json(b));
  }
}
