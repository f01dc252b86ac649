/**
 * Time, and turns of the event loop.
 */

/** Nanoseconds since some fixed moment, monotonic; the resolution is the host's (microseconds in browsers). */
export const now = (): number => performance.now() * 1e6;

/** Lets the host run what waits (rendering, aborts, input) before a long piece of work goes on. */
export const yieldToHost = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 0));
