import { ServerConnection } from '@jupyterlab/services';
import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import WebSocketClient, { type WebSocket as Peer, WebSocketServer } from 'ws';

import { type StreamRequest, type StreamUpdate } from '../../labextension/src/messages';
import {
  type IReading,
  RuntimeApi,
  RuntimeManager,
  RuntimeStream
} from '../../labextension/src/runtime';
import { sample, status } from './messages';

/** A real server with a real WebSocket; the tests say what it sends. */
let http: Server;
let sockets: WebSocketServer;
let peers: Peer[];
let requests: StreamRequest[];
let urls: string[];
let manager: RuntimeManager;
let stream: RuntimeStream;
let page: { hidden: boolean } & EventTarget;

beforeEach(async () => {
  peers = [];
  requests = [];
  urls = [];
  http = createServer();
  sockets = new WebSocketServer({ server: http });
  sockets.on('connection', (peer, request) => {
    peers.push(peer);
    urls.push(request.url ?? '');
    peer.on('message', data => {
      requests.push(JSON.parse((data as Buffer).toString()) as StreamRequest);
    });
  });
  await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve));
  const { port } = http.address() as AddressInfo;
  const address = `127.0.0.1:${port.toString()}/base/`;
  const serverSettings = ServerConnection.makeSettings({
    appendToken: true,
    baseUrl: `http://${address}`,
    token: 'a b',
    WebSocket: WebSocketClient as unknown as typeof WebSocket,
    wsUrl: `ws://${address}`
  });
  page = Object.assign(new EventTarget(), { hidden: false });
  stream = new RuntimeStream({
    document: page as unknown as Document,
    firstPause: 20,
    serverSettings
  });
  manager = new RuntimeManager({ api: new RuntimeApi({ serverSettings }), stream });
});

afterEach(async () => {
  manager.dispose();
  sockets.close();
  for (const peer of sockets.clients) {
    peer.terminate();
  }
  http.closeAllConnections();
  await new Promise(resolve => http.close(resolve));
});

/** Send news of a kernel on the latest connection. */
function tell(update: Partial<StreamUpdate>): void {
  peers.at(-1)?.send(JSON.stringify({ kernel_id: 'k1', at: 1000, ...update }));
}

/** Resolves when the server has got the n-th request. */
function asked(count: number): Promise<void> {
  return vi.waitFor(() => {
    expect(requests.length).toBeGreaterThanOrEqual(count);
  });
}

/** Resolves with the first reading that is right. */
function when(isRight: (reading: IReading) => boolean): Promise<IReading> {
  return vi.waitFor(() => {
    expect(isRight(manager.reading)).toBe(true);
    return manager.reading;
  });
}

function setHidden(hidden: boolean): void {
  page.hidden = hidden;
  page.dispatchEvent(new Event('visibilitychange'));
}

describe('RuntimeManager', () => {
  it('should not connect while there is no kernel', () => {
    manager.follow(null);
    manager.refresh();
    expect(manager.connection).toBe('idle');
  });

  it('should follow a kernel below the base URL, with the token', async () => {
    manager.follow('k1');
    await asked(1);
    expect(urls).toEqual(['/base/heliostat/api/stream?token=a%20b']);
    expect(requests).toEqual([{ kernel_id: 'k1', interval: 1 }]);
  });

  it('should put updates together to what is known', async () => {
    manager.follow('k1');
    await asked(1);
    tell({ status: status() });
    tell({ samples: [sample({ at: 1000 }), sample({ at: 1001 })], nodes: [], cells: [] });
    tell({ samples: [sample({ at: 1001 }), sample({ at: 1002 })] });
    const reading = await when(found => found.history.length === 3);
    expect(reading.history.map(each => each.at)).toEqual([1000, 1001, 1002]);
    expect(reading.view).toMatchObject({ status: { state: 'ready' }, sample: { at: 1002 } });
    expect(reading.problem).toBeNull();
  });

  it('should keep fifteen minutes of readings and no more', async () => {
    manager.follow('k1');
    await asked(1);
    tell({ status: status(), samples: [sample({ at: 1 }), sample({ at: 500 })] });
    tell({ samples: [sample({ at: 902 })] });
    const reading = await when(found => found.history.at(-1)?.at === 902);
    expect(reading.history.map(each => each.at)).toEqual([500, 902]);
  });

  it('should forget the former runtime when the kernel has another', async () => {
    manager.follow('k1');
    await asked(1);
    tell({ status: status(), samples: [sample()] });
    await when(found => found.history.length === 1);
    tell({ status: status({ runtime_id: 'r2' }) });
    const reading = await when(found => found.view?.status.runtime_id === 'r2');
    expect(reading.history).toEqual([]);
  });

  it('should forget the former kernel at once when another is followed', async () => {
    manager.follow('k1');
    await asked(1);
    tell({ status: status() });
    await when(found => found.view !== null);
    manager.follow('k2');
    expect(manager.reading).toMatchObject({ kernelId: 'k2', view: null, isKnown: false });
    await asked(3);
    expect(requests.slice(1)).toEqual([
      { kernel_id: 'k1', follow: false },
      { kernel_id: 'k2', interval: 1 }
    ]);
    tell({ status: status() });
    tell({ kernel_id: 'k2', present: false });
    await when(found => found.isKnown);
    expect(manager.reading.view).toBeNull();
  });

  it('should keep the last view, and the reason, when the supervisor is lost', async () => {
    manager.follow('k1');
    await asked(1);
    tell({ status: status() });
    tell({ problem: { error: 'RuntimeLostError', message: 'Gone.', action: 'Restart.' } });
    const reading = await when(found => found.problem !== null);
    expect(reading.problem).toBe('Gone. Restart.');
    expect(reading.view?.status.runtime_id).toBe('r1');
  });

  it('should keep how the kernel died until it has a runtime again', async () => {
    manager.follow('k1');
    await asked(1);
    tell({ status: status() });
    tell({ kernel_end: { at: 1, what: 'Killed.', action: '' } });
    tell({ present: false });
    const reading = await when(found => found.view === null && found.kernelEnd !== null);
    expect(reading.kernelEnd?.what).toBe('Killed.');
    tell({ status: status({ runtime_id: 'r2' }) });
    await when(found => found.kernelEnd === null);
  });

  it('should report what is not an update as a problem, and go on', async () => {
    manager.follow('k1');
    await asked(1);
    peers[0]?.send('{"kernel_id": "k1"}');
    await when(found => found.problem === 'StreamUpdate.at should be there');
    tell({ status: status() });
    await when(found => found.problem === null && found.view !== null);
  });

  it('should come back after a break and ask anew', async () => {
    manager.follow('k1');
    await asked(1);
    const seen: string[] = [];
    stream.connectionChanged.connect((_, connection) => seen.push(connection));
    peers[0]?.terminate();
    await asked(2);
    expect(seen).toEqual(['waiting', 'connecting', 'open']);
    expect(requests[1]).toEqual({ kernel_id: 'k1', interval: 1 });
    expect(peers).toHaveLength(2);
  });

  it('should close the connection while the page is hidden, and open it when it is seen', async () => {
    manager.follow('k1');
    await asked(1);
    setHidden(true);
    expect(manager.connection).toBe('idle');
    await vi.waitFor(() => {
      expect(sockets.clients.size).toBe(0);
    });
    setHidden(false);
    await asked(2);
  });

  it('should change the pace of what is followed', async () => {
    manager.follow('k1');
    await asked(1);
    manager.interval = 5;
    await asked(2);
    expect(requests[1]).toEqual({ kernel_id: 'k1', interval: 5 });
  });

  it('should connect no more when disposed', async () => {
    manager.follow('k1');
    await asked(1);
    manager.dispose();
    manager.follow('k2');
    await vi.waitFor(() => {
      expect(sockets.clients.size).toBe(0);
    });
    expect(requests).toHaveLength(1);
  });
});
