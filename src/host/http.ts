/**
 * One GET over HTTP or HTTPS, through the proxy that the environment names, following redirects. Node's own fetch knows no proxies.
 *
 * HTTP goes to the proxy with the whole URL; HTTPS through a tunnel that the proxy opens (CONNECT), so it sees no content.
 * Variables: https_proxy, http_proxy and no_proxy, in either case, as curl reads them.
 */
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface GetOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly environment?: Environment;
  /** Milliseconds without a byte after which the other side is given up. */
  readonly patienceMs?: number;
}

const MOST_REDIRECTS = 5;
const PATIENCE_MS = 30_000;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** The response, whose body is to be read or destroyed. Rejects with what the system says where there is none. */
export async function get(url: string, options: GetOptions = {}): Promise<IncomingMessage> {
  let at = new URL(url);
  for (let i = 0; i <= MOST_REDIRECTS; i++) {
    const response = await getOnce(at, options);
    const { statusCode = 0, headers } = response;
    if (!REDIRECTS.has(statusCode) || headers.location === undefined) return response;
    response.destroy();
    const next = new URL(headers.location, at);
    if (at.protocol === 'https:' && next.protocol !== 'https:')
      throw new Error(`${at.href} redirects to plain ${next.href}`);
    at = next;
  }
  throw new Error(`${url} redirects more than ${MOST_REDIRECTS} times`);
}

async function getOnce(
  url: URL,
  { headers = {}, environment = process.env, patienceMs = PATIENCE_MS }: GetOptions,
): Promise<IncomingMessage> {
  const proxy = proxyOf(url, environment);
  const timeout = patienceMs;
  if (url.protocol === 'https:') {
    if (!proxy) return answered(requestHttps(url, { headers, timeout }));
    const socket = await tunnel(proxy, url, timeout);
    // The agent of old keeps connections by host; this one is for a single request.
    const createConnection = () => connectTls({ socket, servername: url.hostname });
    return answered(requestHttps(url, { headers, timeout, agent: false, createConnection }));
  }
  if (url.protocol !== 'http:') throw new Error(`${url.protocol} is not http or https`);
  if (!proxy) return answered(requestHttp(url, { headers, timeout }));
  const through = { host: proxy.hostname, port: portOf(proxy), path: url.href, timeout };
  return answered(requestHttp({ ...through, headers: { ...headers, host: url.host, ...authorization(proxy) } }));
}

function answered(request: ReturnType<typeof requestHttp>): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    request.on('response', (response) => {
      // Patience holds for the body too.
      request.on('error', (error) => response.destroy(error));
      resolve(response);
    });
    request.on('timeout', () => request.destroy(new Error('no answer for too long')));
    request.on('error', reject);
    request.end();
  });
}

function tunnel(proxy: URL, url: URL, timeout: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const request = requestHttp({
      host: proxy.hostname,
      port: portOf(proxy),
      method: 'CONNECT',
      path: `${url.hostname}:${portOf(url)}`,
      headers: { host: `${url.hostname}:${portOf(url)}`, ...authorization(proxy) },
      timeout,
    });
    request.on('connect', ({ statusCode }, socket) => {
      if (statusCode === 200) resolve(socket as Socket);
      else {
        socket.destroy();
        reject(new Error(`the proxy ${proxy.host} answered ${statusCode} to a tunnel to ${url.hostname}`));
      }
    });
    request.on('timeout', () => request.destroy(new Error(`the proxy ${proxy.host} does not answer`)));
    request.on('error', reject);
    request.end();
  });
}

const portOf = (url: URL): number => (url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port));

function authorization(proxy: URL): Record<string, string> {
  if (proxy.username === '') return {};
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` };
}

/** The proxy for a URL; undefined where it is to be reached directly. */
export function proxyOf(url: URL, environment: Environment): URL | undefined {
  const variable = (name: string): string => environment[name] ?? environment[name.toUpperCase()] ?? '';
  const exempt = variable('no_proxy')
    .split(',')
    .map((entry) => entry.trim().replace(/^\*?\./, ''))
    .filter((entry) => entry !== '');
  const { hostname } = url;
  if (exempt.some((entry) => entry === '*' || hostname === entry || hostname.endsWith(`.${entry}`))) return undefined;
  const text = variable(url.protocol === 'https:' ? 'https_proxy' : 'http_proxy');
  if (text === '') return undefined;
  return new URL(text.includes('://') ? text : `http://${text}`);
}
