/** The worker that compiles, with a package in koffi's place that needs no driver. */
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { type CompileJob, type Compiler, startCompiler } from './compiler-worker.ts';

const KOFFI = fileURLToPath(new URL('../../tests/cuda/fake-koffi.cjs', import.meta.url));
const start = (file = 'libfake.so'): Compiler => startCompiler(file, KOFFI) as Compiler;
const job = (ptx: string, change: Partial<CompileJob> = {}): CompileJob => ({
  context: 7,
  ptx,
  options: [],
  ...change,
});

test('texts go in and cubins come out, one after the other', async () => {
  const compiler = start();
  for (const ptx of ['first', 'second', 'third, with µ']) {
    const { status, cubin, info, errors } = await compiler.compile(job(ptx, { options: [[7, 4]] }));
    expect(status).toBe(0);
    expect(new TextDecoder().decode(cubin)).toBe([...ptx].reverse().join(''));
    expect(info).toBe('compiled');
    expect(errors).toBe('options 7 4');
  }
});

test('what the driver refuses comes back as its status, and the next text is compiled', async () => {
  const compiler = start();
  expect((await compiler.compile(job('broken'))).status).toBe(218);
  expect((await compiler.compile(job('x', { context: 8 }))).status).toBe(201);
  expect((await compiler.compile(job('x'))).status).toBe(0);
});

test('a library that is not there is a failure, not silence', async () => {
  await expect(start('libnothing.so').compile(job('x'))).rejects.toThrow(/cannot open libnothing/);
});
