/**
 * A graph: work recorded from a stream once, launched as a whole with one call, about a microsecond a node instead of five a launch.
 */
import type { Context } from './context.ts';
import type { Stream } from './stream.ts';

/** Calls that could disturb the recording are refused to this thread meanwhile, not to others. */
const CAPTURE_THREAD_LOCAL = 1;

export class Graph {
  readonly context: Context;
  readonly handle: number;
  readonly nodes: number;
  readonly #free: () => void;

  /** Records what `work` puts into the stream, without running it. Launches keep the addresses and sizes that they have now. */
  constructor(stream: Stream, work: () => void) {
    const { context } = stream;
    const recorded = capture(stream, work);
    try {
      const count = new BigUint64Array(1);
      context.call('cuGraphGetNodes', 'count the nodes of a graph', recorded, 0, count);
      this.nodes = Number(count[0]);
      const handle = context
        .enter()
        .handle('cuGraphInstantiateWithFlags', `prepare a graph of ${this.nodes} nodes`, recorded, 0);
      this.context = context;
      this.handle = handle;
      this.#free = context.own(this, (driver) => void driver.status('cuGraphExecDestroy', handle));
    } finally {
      context.driver.status('cuGraphDestroy', recorded);
    }
  }

  /** Sends it to the GPU ahead of its first launch. */
  upload(stream: Stream): void {
    this.context.call('cuGraphUpload', 'upload a graph', this.handle, stream.handle);
  }

  launch(stream: Stream): void {
    this.context.call('cuGraphLaunch', 'launch a graph', this.handle, stream.handle);
  }

  dispose(): void {
    this.#free();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** The handle of the recorded graph. */
function capture({ context, handle }: Stream, work: () => void): number {
  const what = 'record a graph';
  context.call('cuStreamBeginCapture_v2', what, handle, CAPTURE_THREAD_LOCAL);
  try {
    work();
  } catch (cause) {
    // Whatever became of the recording, the stream must be of use again.
    const out = new BigUint64Array(1);
    const status = context.driver.status('cuStreamEndCapture', handle, out);
    if (status === 0 && out[0] !== 0n) context.driver.status('cuGraphDestroy', Number(out[0]));
    throw cause;
  }
  const out = new BigUint64Array(1);
  context.call('cuStreamEndCapture', what, handle, out);
  return Number(out[0]);
}
