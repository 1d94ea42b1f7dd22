/** HTTP to the server extension, and nothing else. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import { ErrorBody, RuntimeView } from '../messages';
import { validate } from './validate';

const ROOT = 'heliostat/api';

/** Reads the runtimes of one Jupyter server. */
export interface IRuntimeApi {
  /**
   * State and latest reading of the runtime behind a kernel; `null` when it has none.
   *
   * #### Notes
   * Rejects with a RuntimeApiError when the server refuses, a ServerConnection.NetworkError when
   * it does not answer, and a ValidationError when the answer is not a RuntimeView.
   */
  view(kernelId: string): Promise<RuntimeView | null>;
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

  async view(kernelId: string): Promise<RuntimeView | null> {
    const response = await this._get('runtimes', encodeURIComponent(kernelId));
    if (response.status === 404) {
      return null;
    }
    if (!response.ok) {
      throw await Private.refusal(response);
    }
    return validate('RuntimeView', await response.json());
  }

  private _get(...path: string[]): Promise<Response> {
    const url = URLExt.join(this._settings.baseUrl, ROOT, ...path);
    return ServerConnection.makeRequest(url, { method: 'GET' }, this._settings);
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
