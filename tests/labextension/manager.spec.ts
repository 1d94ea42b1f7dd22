import { ServerConnection } from '@jupyterlab/services';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import { type IReading, RuntimeApi, RuntimeManager } from '../../labextension/src/runtime';
import { status, view } from './messages';

/** A real HTTP server; `answer` is what it sends to the next requests. */
let server: Server;
let manager: RuntimeManager;
let api: RuntimeApi;
let answer: { code: number; body: unknown };
let asked: string[];

beforeEach(async () => {
  asked = [];
  answer = { code: 200, body: view() };
  server = createServer((request: IncomingMessage, response) => {
    asked.push(new URL(request.url ?? '', 'http://localhost').pathname);
    response.writeHead(answer.code, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(answer.body));
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const baseUrl = `http://127.0.0.1:${port.toString()}/base/`;
  const serverSettings = ServerConnection.makeSettings({ baseUrl, fetch, token: 't' });
  api = new RuntimeApi({ serverSettings });
  manager = new RuntimeManager({ api, interval: 0.05, standby: 'never' });
});

afterEach(async () => {
  manager.dispose();
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
});

/** Resolves with the first reading that is right. */
function when(isRight: (reading: IReading) => boolean): Promise<IReading> {
  return vi.waitFor(() => {
    expect(isRight(manager.reading)).toBe(true);
    return manager.reading;
  });
}

describe('RuntimeManager', () => {
  it('should ask nothing while there is no kernel', async () => {
    manager.follow(null);
    await manager.refresh();
    expect(asked).toEqual([]);
  });

  it('should read the runtime of the kernel that it follows, again and again', async () => {
    manager.follow('k1');
    await when(reading => reading.view !== null);
    await vi.waitFor(() => {
      expect(asked.length).toBeGreaterThan(2);
    });
    expect(asked[0]).toBe('/base/heliostat/api/runtimes/k1');
  });

  it('should forget the former kernel at once when another is followed', async () => {
    manager.follow('k1');
    await when(reading => reading.view !== null);
    manager.follow('k2');
    expect(manager.reading).toMatchObject({ kernelId: 'k2', view: null });
    await when(reading => reading.view !== null);
    expect(asked.at(-1)).toContain('k2');
  });

  it('should take 404 for a kernel without a runtime, and not for a problem', async () => {
    answer = { code: 404, body: { error: 'RuntimeUnavailableError', message: 'none' } };
    manager.follow('k1');
    await vi.waitFor(() => {
      expect(asked.length).toBeGreaterThan(0);
    });
    await when(reading => reading.receivedAt > 0);
    expect(manager.reading).toMatchObject({ view: null, problem: null });
  });

  it('should keep the last view, and the reason, when the server refuses', async () => {
    manager.follow('k1');
    await when(reading => reading.view !== null);
    answer = {
      code: 502,
      body: { error: 'RuntimeLostError', message: 'Gone.', action: 'Restart.' }
    };
    const reading = await when(found => found.problem !== null);
    expect(reading.problem).toBe('Gone. Restart.');
    expect(reading.view?.status.runtime_id).toBe('r1');
  });

  it('should report an answer that is not a RuntimeView as a problem', async () => {
    answer = { code: 200, body: { at: 1 } };
    manager.follow('k1');
    const reading = await when(found => found.problem !== null);
    expect(reading.problem).toBe('RuntimeView.status should be there');
  });

  it('should find the runtime of a kernel that starts, however slow the pace', async () => {
    manager.interval = 60;
    answer = { code: 404, body: { error: 'RuntimeUnavailableError', message: 'none yet' } };
    manager.follow('k1');
    await when(reading => reading.receivedAt > 0);
    answer = { code: 200, body: view() };
    await when(reading => reading.view !== null);
  });

  it('should ask more often while the runtime is changing', async () => {
    manager.dispose();
    manager = new RuntimeManager({ api, hope: 0, interval: 60, standby: 'never' });
    answer = { code: 200, body: view({ status: status({ state: 'starting' }) }) };
    manager.follow('k1');
    await vi.waitFor(
      () => {
        expect(asked.length).toBeGreaterThan(2);
      },
      { timeout: 3000 }
    );
  });

  it('should stop asking when disposed', async () => {
    manager.follow('k1');
    await when(reading => reading.view !== null);
    manager.dispose();
    manager.follow('k2');
    await manager.refresh();
    expect(asked.every(url => url.endsWith('k1'))).toBe(true);
  });
});
