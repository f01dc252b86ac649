/** One page on an address of this machine, for nobody else. */
import { spawn } from 'node:child_process';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ModelError } from '../core/errors.ts';

/** Serves until the process ends; returns the address. Throws ModelError `option-invalid` where the port is taken. */
export function servePage(page: Uint8Array, port: number): Promise<string> {
  const server = createServer((request, response) => {
    // Another site's name that resolves to this machine must not read the page.
    const host = (request.headers.host ?? '').replace(/:\d+$/, '');
    const known = (host === '127.0.0.1' || host === 'localhost') && (request.url ?? '').split('?')[0] === '/';
    response.writeHead(known ? 200 : 404, {
      'Content-Type': 'text/html; charset=utf-8',
      'Cache-Control': 'no-store',
      'X-Content-Type-Options': 'nosniff',
    });
    response.end(known && request.method !== 'HEAD' ? page : undefined);
  });
  return new Promise((resolve, reject) => {
    server.on('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'EADDRINUSE' ? 'the port is taken' : cause.message;
      reject(
        new ModelError('option-invalid', `--port ${port}: ${why}`, { hint: 'Name another port, or none.', cause }),
      );
    });
    server.listen(port, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`));
  });
}

const OPENERS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  darwin: ['open'],
  win32: ['cmd', '/c', 'start', ''],
};

/** Asks the system to show the address. Where there is no screen or no browser, nothing happens: the address was printed. */
export function openInBrowser(url: string): void {
  const screen = process.platform !== 'linux' || process.env.DISPLAY || process.env.WAYLAND_DISPLAY;
  if (!screen) return;
  const [command, ...args] = OPENERS[process.platform] ?? ['xdg-open'];
  const child = spawn(command, [...args, url], { stdio: 'ignore', detached: true });
  child.on('error', () => {});
  child.unref();
}
