/** Which flags are set around which work, by a V8 that writes them down. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import * as host from './node-module.ts';
import { firstTimeUnoptimized, setV8Flags } from './v8-flags.ts';

vi.mock('./node-module.ts', { spy: true });

let log: string[] = [];
/** How the process was started. */
let execArgv: readonly string[] = [];
let options: string | undefined;

beforeEach(() => {
  log = [];
  execArgv = [];
  options = undefined;
  vi.mocked(host.nodeModule).mockImplementation((name) => {
    if (name === 'node:v8') return { setFlagsFromString: (flag: string) => log.push(flag) };
    return name === 'node:process' ? { execArgv, env: { NODE_OPTIONS: options } } : undefined;
  });
});
afterEach(() => void vi.restoreAllMocks());

/** Two pieces of work and what was set around them. */
function twice(cores: number): readonly string[] {
  const run = firstTimeUnoptimized(() => cores);
  for (const piece of ['first', 'second']) {
    const result = run(() => {
      log.push(piece);
      return piece;
    });
    expect(result).toBe(piece);
  }
  return log;
}

test('on few cores the first time is without the optimising compiler, which is back at once', () => {
  for (const cores of [1, 2, 3]) {
    log = [];
    expect(twice(cores)).toEqual(['--no-opt', 'first', '--opt', 'second']);
  }
});

test('on many cores it stays', () => {
  for (const cores of [4, 64]) {
    log = [];
    expect(twice(cores)).toEqual(['first', 'second']);
  }
});

test.each(['--no-opt', '--opt', '--no-turbofan', '--jitless', '--max-lazy'])(
  'who started the process with %s keeps it',
  (flag) => {
    execArgv = ['--no-warnings', flag];
    expect(twice(2)).toEqual(['first', 'second']);
    execArgv = [];
    options = `--max-old-space-size=4096 ${flag}`;
    log = [];
    expect(twice(2)).toEqual(['first', 'second']);
  },
);

test('other options of the process are no choice', () => {
  options = '--max-old-space-size=4096 --enable-source-maps';
  expect(twice(2)).toContain('--no-opt');
});

test('it is back after an error, which comes through', () => {
  const run = firstTimeUnoptimized(() => 2);
  const fail = (): never => {
    throw new RangeError('x');
  };
  expect(() => run(fail)).toThrow(RangeError);
  expect(log).toEqual(['--no-opt', '--opt']);
});

test('hosts without such flags do the work all the same', () => {
  vi.mocked(host.nodeModule).mockReturnValue(undefined);
  expect(setV8Flags(['--no-opt'])).toBe(false);
  expect(twice(2)).toEqual(['first', 'second']);
  vi.mocked(host.nodeModule).mockImplementation(() => ({
    execArgv: [],
    env: {},
    setFlagsFromString: () => {
      throw new Error('no such flag');
    },
  }));
  log = [];
  expect(twice(2)).toEqual(['first', 'second']);
});
