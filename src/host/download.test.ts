/** Downloads from servers on this machine: whole, resumed, refused, broken off, wrong, redirected, through a proxy. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { ModelError } from '../core/errors.ts';
import { type DownloadOptions, download, hasDigest } from './download.ts';
import { proxyOf } from './http.ts';

const CONTENT = Buffer.from(Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7919) >> 5));
const SHA256 = createHash('sha256').update(CONTENT).digest('hex');

let folder = '';
const servers: Server[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'hotrod-download-'));
});
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    server.close();
  }
  rmSync(folder, { recursive: true });
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Serves the content, and ranges of it. */
function answer(request: IncomingMessage, response: ServerResponse, content = CONTENT): void {
  const [, start] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? [];
  const from = Number(start ?? 0);
  if (from >= content.length) {
    response.writeHead(416).end();
    return;
  }
  const headers = { 'content-length': content.length - from };
  if (start === undefined) response.writeHead(200, headers);
  else
    response.writeHead(206, { ...headers, 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` });
  response.end(content.subarray(from));
}

const file = (): string => join(folder, 'deep', 'weights.pth');
const options = (url: string, more: Partial<DownloadOptions> = {}): DownloadOptions => ({
  url,
  file: file(),
  sha256: SHA256.slice(0, 8),
  environment: {},
  patienceMs: 2000,
  ...more,
});
const failure = async (given: DownloadOptions): Promise<ModelError> =>
  download(given).then(
    () => {
      throw new Error('it did not fail');
    },
    (error: ModelError) => error,
  );

test('a file comes whole, with progress to its end', async () => {
  const seen: number[] = [];
  const url = await serve((request, response) => answer(request, response));
  await download(options(url, { onProgress: (bytes, total) => seen.push(bytes, total ?? 0) }));
  expect(readFileSync(file()).equals(CONTENT)).toBe(true);
  expect(seen.slice(0, 2)).toEqual([0, CONTENT.length]);
  expect(seen.slice(-2)).toEqual([CONTENT.length, CONTENT.length]);
  expect(readdirSync(join(folder, 'deep'))).toEqual(['weights.pth']);
  expect(await hasDigest(file(), SHA256)).toBe(true);
  expect(await hasDigest(file(), 'ffffffff')).toBe(false);
});

test('what was broken off is gone on with, and only the rest is sent', async () => {
  const ranges: (string | undefined)[] = [];
  const url = await serve((request, response) => {
    ranges.push(request.headers.range);
    if (ranges.length > 1) return answer(request, response);
    response.writeHead(200, { 'content-length': CONTENT.length });
    response.write(CONTENT.subarray(0, 100_000));
    setTimeout(() => response.destroy(), 100);
  });
  const error = await failure(options(url));
  expect([error.code, error.hint]).toEqual(['download-failed', expect.stringContaining(file())]);
  expect(existsSync(file())).toBe(false);
  const have = readFileSync(`${file()}.part`).length;
  expect(have).toBeGreaterThan(0);
  await download(options(url));
  expect(ranges).toEqual([undefined, `bytes=${have}-`]);
  expect(readFileSync(file()).equals(CONTENT)).toBe(true);
});

test.each<readonly [string, Buffer, number]>([
  ['of something else', Buffer.alloc(1000, 1), 2],
  ['that is whole', CONTENT, 1],
  ['longer than the file', Buffer.alloc(CONTENT.length + 5, 1), 2],
])('a part %s', async (_, part, requests) => {
  let count = 0;
  const url = await serve((request, response) => {
    count++;
    answer(request, response);
  });
  writeFileSync(join(folder, 'x.part'), part);
  await download(options(url, { file: join(folder, 'x') }));
  expect(readFileSync(join(folder, 'x')).equals(CONTENT)).toBe(true);
  expect(count).toBe(requests);
});

test('a server without ranges sends all of it again', async () => {
  const url = await serve((_, response) => response.end(CONTENT));
  writeFileSync(join(folder, 'x.part'), CONTENT.subarray(0, 500));
  await download(options(url, { file: join(folder, 'x') }));
  expect(readFileSync(join(folder, 'x')).equals(CONTENT)).toBe(true);
});

test('another file under that name is refused, and not kept', async () => {
  const url = await serve((request, response) => answer(request, response, Buffer.from('<html>please log in</html>')));
  const error = await failure(options(url));
  expect([error.code, error.message]).toEqual(['download-failed', expect.stringContaining(SHA256.slice(0, 8))]);
  expect(readdirSync(join(folder, 'deep'))).toEqual([]);
});

test('what goes wrong is said, with where to put the file by hand', async () => {
  const missing = await serve((_, response) => response.writeHead(404).end());
  const mute = await serve(() => {});
  const loop: string = await serve((_, response) => response.writeHead(302, { location: loop }).end());
  for (const [url, message] of [
    [missing, /answered 404/],
    [mute, /no answer for too long/],
    [loop, /redirects more than/],
    ['http://127.0.0.1:1/x', /ECONNREFUSED/],
    ['http://host.invalid/x', /ENOTFOUND|EAI_AGAIN/],
    ['ftp://127.0.0.1/x', /not http/],
  ] as const) {
    const error = await failure(options(url, { patienceMs: 300 }));
    expect([error.code, error.message, error.hint]).toEqual([
      'download-failed',
      expect.stringMatching(message),
      expect.stringContaining(`put it at ${file()}`),
    ]);
  }
});

test('redirects are followed', async () => {
  const target = await serve((request, response) => answer(request, response));
  const url = await serve((_, response) => response.writeHead(302, { location: `${target}/file` }).end());
  await download(options(url));
  expect(readFileSync(file()).equals(CONTENT)).toBe(true);
});

test('a proxy gets the whole URL, and who asks', async () => {
  const asked: (string | undefined)[] = [];
  const proxy = await serve((request, response) => {
    asked.push(request.url, request.headers['proxy-authorization']);
    answer(request, response);
  });
  const environment = { HTTP_PROXY: proxy.replace('//', '//me:secret@') };
  await download(options('http://weights.invalid/a.pth', { environment }));
  expect(asked).toEqual(['http://weights.invalid/a.pth', `Basic ${Buffer.from('me:secret').toString('base64')}`]);
  expect(readFileSync(file()).equals(CONTENT)).toBe(true);
});

test('HTTPS goes through a tunnel of the proxy, which the proxy may refuse', async () => {
  const tunnels: (string | undefined)[] = [];
  const plain = await serve((_, response) => response.end('this is no TLS'));
  const proxy = createServer();
  servers.push(proxy);
  proxy.on('connect', (request, socket) => {
    tunnels.push(request.url);
    if (tunnels.length === 1) return socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
    const { port } = new URL(plain);
    const onward = connect(Number(port), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(onward).pipe(socket);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const environment = { https_proxy: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}` };
  const url = 'https://weights.invalid/a.pth';
  expect((await failure(options(url, { environment }))).message).toContain(
    'answered 403 to a tunnel to weights.invalid',
  );
  // The tunnel stands; what answers at its end speaks no TLS, and that is an error too.
  expect((await failure(options(url, { environment }))).code).toBe('download-failed');
  expect(tunnels).toEqual(['weights.invalid:443', 'weights.invalid:443']);
});

test('which proxy, and for whom none', () => {
  const proxy = (url: string, environment: Record<string, string>): string | undefined =>
    proxyOf(new URL(url), environment)?.href;
  expect(proxy('https://a.org/x', { HTTPS_PROXY: 'http://p:3128' })).toBe('http://p:3128/');
  expect(proxy('https://a.org/x', { https_proxy: 'p:3128' })).toBe('http://p:3128/');
  expect(proxy('https://a.org/x', { http_proxy: 'http://p:3128' })).toBeUndefined();
  expect(proxy('https://b.a.org/x', { https_proxy: 'http://p:3128', no_proxy: 'c.org, .a.org' })).toBeUndefined();
  expect(proxy('https://ba.org/x', { https_proxy: 'http://p:3128', NO_PROXY: 'a.org' })).toBe('http://p:3128/');
  expect(proxy('https://a.org/x', { https_proxy: 'http://p:3128', no_proxy: '*' })).toBeUndefined();
});
