/** HTTP to the server extension, and nothing else. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import {
  type ErrorBody,
  type IMessages,
  type LogTail,
  type Manifest,
  type ResizeOperation,
  type ResizePlan,
  type ResizeRequest,
  type ResizeTarget,
  type RuntimeStatus
} from '../messages';
import { validate } from './validate';

const ROOT = 'heliostat/api';

/**
 * Reads and changes the runtimes of one Jupyter server.
 *
 * #### Notes
 * Everything rejects with a RuntimeApiError when the server refuses, a
 * ServerConnection.NetworkError when it does not answer, and a ValidationError when the answer is
 * not the message that was expected.
 */
export interface IRuntimeApi {
  /** The living runtimes of the server's kernels. */
  runtimes(): Promise<Manifest[]>;
  /** Last lines of the log of a kernel's runtime. */
  log(kernelId: string): Promise<LogTail>;
  /** What a resize would do; changes nothing. */
  plan(kernelId: string, target: ResizeTarget): Promise<ResizePlan>;
  resize(kernelId: string, request: ResizeRequest): Promise<ResizeOperation>;
  cancelResize(kernelId: string): Promise<ResizeOperation>;
  /** Have a piece of work stop. */
  cancelWork(kernelId: string, taskId: string): Promise<void>;
  /** Have a rank stop what it runs; the others run on. */
  stopRank(kernelId: string, rank: number): Promise<void>;
  /** Last lines of the log of a piece of work. */
  workLog(kernelId: string, taskId: string): Promise<LogTail>;
  /** Take Ray down and boot it again; resolves when it is up or has failed. */
  restart(kernelId: string): Promise<RuntimeStatus>;
  /** Take the runtime down. The kernel and its variables stay. */
  stop(kernelId: string): Promise<void>;
}

/** The server's refusal, with what to do about it. */
export class RuntimeApiError extends ServerConnection.ResponseError {
  constructor(response: Response, body: ErrorBody) {
    super(response, [body.message, body.action].filter(Boolean).join(' '));
    this.name = 'RuntimeApiError';
  }
}

/** The endpoints of the server extension. */
export class RuntimeApi implements IRuntimeApi {
  constructor(options: RuntimeApi.IOptions = {}) {
    this._settings = options.serverSettings ?? ServerConnection.makeSettings();
  }

  async runtimes(): Promise<Manifest[]> {
    const found = await this._fetch(['runtimes']);
    return (found as unknown[]).map(item => validate('Manifest', item));
  }

  log(kernelId: string): Promise<LogTail> {
    return this._ask('LogTail', kernelId, 'log');
  }

  plan(kernelId: string, target: ResizeTarget): Promise<ResizePlan> {
    return this._ask('ResizePlan', kernelId, 'plan', target);
  }

  resize(kernelId: string, request: ResizeRequest): Promise<ResizeOperation> {
    return this._ask('ResizeOperation', kernelId, 'resize', request);
  }

  cancelResize(kernelId: string): Promise<ResizeOperation> {
    return this._ask('ResizeOperation', kernelId, 'cancel-resize', {});
  }

  restart(kernelId: string): Promise<RuntimeStatus> {
    return this._ask('RuntimeStatus', kernelId, 'restart', {});
  }

  async cancelWork(kernelId: string, taskId: string): Promise<void> {
    await this._fetch(['runtimes', kernelId, 'cancel-work'], { task_id: taskId });
  }

  async stopRank(kernelId: string, rank: number): Promise<void> {
    await this._fetch(['runtimes', kernelId, 'stop-rank'], { rank });
  }

  async workLog(kernelId: string, taskId: string): Promise<LogTail> {
    return validate('LogTail', await this._fetch(['runtimes', kernelId, 'tasks', taskId]));
  }

  async stop(kernelId: string): Promise<void> {
    await this._fetch(['runtimes', kernelId, 'stop'], {});
  }

  private async _ask<K extends keyof IMessages>(
    answer: K,
    kernelId: string,
    action: string,
    body?: object
  ): Promise<IMessages[K]> {
    return validate(answer, await this._fetch(['runtimes', kernelId, action], body));
  }

  /** GET without a body, POST with one. */
  private async _fetch(path: string[], body?: object): Promise<unknown> {
    const url = URLExt.join(this._settings.baseUrl, ROOT, ...path.map(encodeURIComponent));
    const init = body ? { method: 'POST', body: JSON.stringify(body) } : { method: 'GET' };
    const response = await ServerConnection.makeRequest(url, init, this._settings);
    if (!response.ok) {
      throw await Private.refusal(response);
    }
    return response.json() as Promise<unknown>;
  }

  private readonly _settings: ServerConnection.ISettings;
}

export namespace RuntimeApi {
  export interface IOptions {
    serverSettings?: ServerConnection.ISettings;
  }
}

namespace Private {
  /** The error that an answer stands for; not every proxy on the way speaks ErrorBody. */
  export async function refusal(response: Response): Promise<Error> {
    try {
      return new RuntimeApiError(response, validate('ErrorBody', await response.json()));
    } catch {
      return new ServerConnection.ResponseError(response);
    }
  }
}
