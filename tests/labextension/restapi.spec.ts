import { ServerConnection } from '@jupyterlab/services';
import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { RuntimeApi, RuntimeApiError } from '../../labextension/src/runtime';
import { plan } from './messages';

/** A real HTTP server; `answer` is what it sends to the next requests. */
let server: Server;
let api: RuntimeApi;
let answer: { code: number; body: unknown };
let asked: { method: string; path: string; body: string }[];

beforeEach(async () => {
  asked = [];
  server = createServer((request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => (body += part.toString()));
    request.on('end', () => {
      asked.push({ method: request.method ?? '', path: request.url?.split('?')[0] ?? '', body });
      response.writeHead(answer.code, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(answer.body));
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const baseUrl = `http://127.0.0.1:${port.toString()}/base/`;
  api = new RuntimeApi({ serverSettings: ServerConnection.makeSettings({ baseUrl, fetch }) });
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise(resolve => server.close(resolve));
});

describe('RuntimeApi', () => {
  it('should send a target and return the plan', async () => {
    answer = { code: 200, body: plan() };
    expect(await api.plan('k 1', { cpus: 2 })).toEqual(plan());
    const path = '/base/heliostat/api/runtimes/k%201/plan';
    expect(asked).toEqual([{ method: 'POST', path, body: '{"cpus":2}' }]);
  });

  it('should read with GET', async () => {
    answer = { code: 200, body: { lines: ['a'] } };
    expect(await api.log('k1')).toEqual({ lines: ['a'] });
    expect(asked[0]?.method).toBe('GET');
  });

  it('should reject with the sentence of a refusal', async () => {
    answer = { code: 400, body: { error: 'ResizeError', message: 'Too much.', action: 'Less.' } };
    const refused = api.plan('k1', { cpus: 99 });
    await expect(refused).rejects.toBeInstanceOf(RuntimeApiError);
    await expect(refused).rejects.toThrow('Too much. Less.');
  });

  it('should reject an answer of another shape, naming the field', async () => {
    answer = { code: 200, body: { ...plan(), command: 1 } };
    await expect(api.plan('k1', {})).rejects.toThrow('ResizePlan.command should be of type string');
  });

  it('should reject what a proxy says instead', async () => {
    answer = { code: 504, body: 'Gateway Timeout' };
    await expect(api.stop('k1')).rejects.toBeInstanceOf(ServerConnection.ResponseError);
  });
});
