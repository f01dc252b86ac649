/**
 * Threads: Node's worker_threads or a browser's Worker behind one interface.
 *
 * A worker's source is a plain script without imports that talks through names given to it: `receive(f)` hands the next
 * message it gets to f, `send(message)` answers, `finish()` ends the worker; in Node `load(file)` gives a package. An idle worker never keeps the process alive.
 */
import { nodeModule } from './node-module.ts';

export interface HostWorker {
  /** Gives the worker a message. */
  start(message: unknown): void;
  /** Resolves with the next thing the worker sends; rejects when it fails or ends before. */
  next(): Promise<unknown>;
  terminate(): void;
}

/** The part of Node's worker_threads that is used here; typed by hand so that browsers' builds need no Node types. */
interface NodeWorker {
  on(event: 'message' | 'error' | 'exit', listener: (value: unknown) => void): void;
  postMessage(message: unknown): void;
  unref(): void;
  ref(): void;
  terminate(): Promise<number>;
}
interface NodeThreads {
  readonly Worker: new (source: string, options: { eval: true; execArgv: [] }) => NodeWorker;
}

const NODE_PRELUDE = `'use strict';
const { parentPort } = process.getBuiltinModule('node:worker_threads');
const send = (message) => parentPort.postMessage(message);
const receive = (f) => parentPort.once('message', f);
const finish = () => parentPort.close();
const load = (file) => process.getBuiltinModule('node:module').createRequire(file)(file);
`;
const WEB_PRELUDE = `'use strict';
const send = (message) => postMessage(message);
const receive = (f) => { onmessage = (event) => f(event.data); };
const finish = () => close();
`;

/** What a worker has sent and nobody has taken, or those who wait for it. */
class Mailbox {
  readonly #messages: unknown[] = [];
  readonly #waiting: { resolve: (message: unknown) => void; reject: (error: Error) => void }[] = [];
  #error: Error | undefined;

  put(message: unknown): void {
    const first = this.#waiting.shift();
    if (first) first.resolve(message);
    else this.#messages.push(message);
  }

  fail(error: Error): void {
    this.#error ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }

  next(): Promise<unknown> {
    if (this.#messages.length > 0) return Promise.resolve(this.#messages.shift());
    if (this.#error) return Promise.reject(this.#error);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }
}

/** Starts a thread that evaluates `source`. Throws what the host throws where it has no threads or refuses them. */
export function spawnWorker(source: string): HostWorker {
  const threads = nodeModule<NodeThreads>('node:worker_threads');
  return threads ? spawnInNode(threads, source) : spawnInBrowser(source);
}

function spawnInNode({ Worker }: NodeThreads, source: string): HostWorker {
  // The program's own flags (loaders, --input-type) are not for this script.
  const worker = new Worker(NODE_PRELUDE + source, { eval: true, execArgv: [] });
  const mailbox = new Mailbox();
  worker.on('message', (message) => mailbox.put(message));
  worker.on('error', (error) => mailbox.fail(error instanceof Error ? error : new Error(String(error))));
  worker.on('exit', () => mailbox.fail(new Error('the worker ended')));
  worker.unref();
  return {
    start: (message) => worker.postMessage(message),
    next: () => {
      // Someone waits: the process must live until the answer is there.
      worker.ref();
      return mailbox.next().finally(() => worker.unref());
    },
    terminate: () => void worker.terminate(),
  };
}

function spawnInBrowser(source: string): HostWorker {
  const url = URL.createObjectURL(new Blob([WEB_PRELUDE, source], { type: 'text/javascript' }));
  const worker = new Worker(url);
  const mailbox = new Mailbox();
  worker.onmessage = (event) => mailbox.put(event.data);
  worker.onerror = (event) => mailbox.fail(new Error(event.message));
  return {
    start: (message) => worker.postMessage(message),
    // The URL is read when the script loads, which has happened once the worker answers.
    next: () => mailbox.next().finally(() => URL.revokeObjectURL(url)),
    terminate: () => worker.terminate(),
  };
}
