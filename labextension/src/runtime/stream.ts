/** One WebSocket for the page: which kernels are followed, and what comes of them. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { type IDisposable } from '@lumino/disposable';
import { type ISignal, Signal } from '@lumino/signaling';

import { type StreamRequest, type StreamUpdate } from '../messages';
import { validate, ValidationError } from './validate';

const PATH = 'heliostat/api/stream';
const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 30_000;

/** What the connection is doing. */
export type Connection = 'idle' | 'connecting' | 'open' | 'waiting';

/**
 * Keeps the connection while a kernel is followed and the page can be seen.
 *
 * #### Notes
 * After a break (server restarted, laptop asleep) it comes back by itself, later each time, and
 * asks for everything anew.
 */
export class RuntimeStream implements IDisposable {
  constructor(options: RuntimeStream.IOptions = {}) {
    this._settings = options.serverSettings ?? ServerConnection.makeSettings();
    this._firstPause = options.firstPause ?? FIRST_PAUSE;
    this._document = options.document ?? (typeof document === 'undefined' ? null : document);
    this._document?.addEventListener('visibilitychange', this._onVisibility);
  }

  get connection(): Connection {
    return this._connection;
  }

  /** Emitted when `connection` is another one. */
  get connectionChanged(): ISignal<this, Connection> {
    return this._connectionChanged;
  }

  /** What the server tells. */
  get updated(): ISignal<this, StreamUpdate> {
    return this._updated;
  }

  /** Emitted with the reason when the server sends what cannot be read. */
  get failed(): ISignal<this, string> {
    return this._failed;
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  /** Follow a kernel, at another pace if it is followed already. */
  follow(kernelId: string, interval: number): void {
    this._followed.set(kernelId, interval);
    this._ask({ kernel_id: kernelId, interval });
    this._adjust();
  }

  unfollow(kernelId: string): void {
    if (this._followed.delete(kernelId)) {
      this._ask({ kernel_id: kernelId, follow: false });
      this._adjust();
    }
  }

  /** Connect now instead of when the pause is over; ask anew for what is followed. */
  refresh(): void {
    this._pause = this._firstPause;
    if (this._connection === 'open') {
      this._askForAll();
    } else {
      this._close();
      this._adjust();
    }
  }

  dispose(): void {
    if (!this._isDisposed) {
      this._isDisposed = true;
      this._document?.removeEventListener('visibilitychange', this._onVisibility);
      this._close();
      Signal.clearData(this);
    }
  }

  /** Be connected if there is somebody to tell, and not otherwise. */
  private _adjust(): void {
    const isWanted =
      this._followed.size > 0 && !this._isDisposed && !(this._document?.hidden ?? false);
    if (!isWanted) {
      this._close();
      this._setConnection('idle');
    } else if (this._socket === null && this._timer === null) {
      this._open();
    }
  }

  private _open(): void {
    this._setConnection('connecting');
    const { wsUrl, appendToken, token } = this._settings;
    const query = appendToken && token ? `?token=${encodeURIComponent(token)}` : '';
    const socket = new this._settings.WebSocket(URLExt.join(wsUrl, PATH) + query);
    this._socket = socket;
    socket.onopen = () => {
      this._pause = this._firstPause;
      this._setConnection('open');
      this._askForAll();
    };
    socket.onmessage = event => {
      this._onMessage(event.data as unknown);
    };
    socket.onclose = () => {
      if (this._socket === socket) {
        this._socket = null;
        this._wait();
      }
    };
  }

  private _wait(): void {
    this._setConnection('waiting');
    this._timer = setTimeout(() => {
      this._timer = null;
      this._adjust();
    }, this._pause);
    this._pause = Math.min(2 * this._pause, LONGEST_PAUSE);
  }

  private _close(): void {
    if (this._timer !== null) {
      clearTimeout(this._timer);
      this._timer = null;
    }
    const socket = this._socket;
    this._socket = null;
    socket?.close();
  }

  private _onMessage(data: unknown): void {
    try {
      this._updated.emit(validate('StreamUpdate', JSON.parse(String(data))));
    } catch (error) {
      if (!(error instanceof ValidationError || error instanceof SyntaxError)) {
        throw error;
      }
      this._failed.emit(error.message);
    }
  }

  private _askForAll(): void {
    for (const [kernelId, interval] of this._followed) {
      this._ask({ kernel_id: kernelId, interval });
    }
  }

  private _ask(request: StreamRequest): void {
    if (this._connection === 'open') {
      this._socket?.send(JSON.stringify(request));
    }
  }

  private _setConnection(connection: Connection): void {
    if (connection !== this._connection) {
      this._connection = connection;
      this._connectionChanged.emit(connection);
    }
  }

  private readonly _onVisibility = (): void => {
    this._pause = this._firstPause;
    this._adjust();
  };

  private _connection: Connection = 'idle';
  private readonly _connectionChanged = new Signal<this, Connection>(this);
  private readonly _document: Document | null;
  private readonly _failed = new Signal<this, string>(this);
  private readonly _firstPause: number;
  private readonly _followed = new Map<string, number>();
  private _isDisposed = false;
  private _pause = FIRST_PAUSE;
  private readonly _settings: ServerConnection.ISettings;
  private _socket: WebSocket | null = null;
  private _timer: ReturnType<typeof setTimeout> | null = null;
  private readonly _updated = new Signal<this, StreamUpdate>(this);
}

export namespace RuntimeStream {
  export interface IOptions {
    /** Tells whether the page can be seen; the page's own when not given. */
    document?: Document;
    /** Milliseconds before the first attempt to come back; 500 when not given. */
    firstPause?: number;
    serverSettings?: ServerConnection.ISettings;
  }
}
