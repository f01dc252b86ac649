/** Workers: one message in, any number out, failures reported, none left behind. */
import { expect, test } from 'vitest';
import { spawnWorker } from './workers.ts';

test('a worker receives its message and answers in order', async () => {
  const worker = spawnWorker('receive(({ from }) => { for (let i = from; i < from + 3; i++) send(i); finish(); });');
  worker.start({ from: 5 });
  expect([await worker.next(), await worker.next(), await worker.next()]).toEqual([5, 6, 7]);
});
test('answers that nobody waited for are kept', async () => {
  const worker = spawnWorker('receive((message) => { send(message + 1); send(message + 2); });');
  worker.start(1);
  const first = await worker.next();
  await new Promise((resolve) => setTimeout(resolve, 30));
  expect([first, await worker.next()]).toEqual([2, 3]);
  worker.terminate();
});
test('an error in the worker rejects', async () => {
  const worker = spawnWorker('receive(() => { throw new Error("no luck"); });');
  worker.start(undefined);
  await expect(worker.next()).rejects.toThrow('no luck');
});
test('a script that does not parse rejects', async () => {
  await expect(spawnWorker('receive(((').next()).rejects.toThrow();
});
test('a worker that ends without an answer rejects', async () => {
  const worker = spawnWorker('receive(() => finish());');
  worker.start(undefined);
  await expect(worker.next()).rejects.toThrow('ended');
});
test('several waits for one worker are answered in turn', async () => {
  const worker = spawnWorker('receive(() => { send("a"); send("b"); });');
  const both = Promise.all([worker.next(), worker.next()]);
  worker.start(undefined);
  expect(await both).toEqual(['a', 'b']);
  worker.terminate();
});
