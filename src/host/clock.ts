/**
 * Time, and giving way to whatever else the host has to do. Works alike in Node and in browsers.
 */

/** A monotonic clock in nanoseconds from an arbitrary start. Browsers may round it to microseconds or worse. */
export const now = (): number => performance.now() * 1e6;

/** Resolves after the host has run what waits: timers, drawing, an abort. */
export const yieldToHost = (): Promise<void> =>
  new Promise((resolve) => {
    if (typeof setImmediate === 'function') setImmediate(resolve);
    else setTimeout(resolve, 0);
  });
