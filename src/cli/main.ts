#!/usr/bin/env node
/**
 * The command line: one file a command, this one only names them and turns errors into exit codes.
 *
 * 0 done; 1 the job failed or a check did not hold; 2 the call, the model or a file is wrong. Errors go to stderr as one message with
 * a hint, and a stack only where DEBUG is set. The names of commands, options and JSON fields are a contract: scripts rely on them.
 */
import { Command, CommanderError } from 'commander';
import { ModelError } from '../core/errors.ts';
import { debugLevel } from '../core/knobs.ts';
import { VERSION } from '../core/version.ts';

/** Each command's file is loaded when it is called, or when all are listed: starting is most of the time of a short command. */
const COMMANDS: Readonly<Record<string, (program: Command) => Promise<void>>> = {
  build: async (program) => (await import('./build.ts')).addBuildCommand(program),
  run: async (program) => (await import('./run.ts')).addRunCommand(program),
  bench: async (program) => (await import('./bench.ts')).addBenchCommand(program),
  compare: async (program) => (await import('./compare.ts')).addCompareCommand(program),
  classify: async (program) => (await import('./classify.ts')).addClassifyCommand(program),
  inspect: async (program) => (await import('./inspect.ts')).addInspectCommand(program),
  view: async (program) => (await import('./view.ts')).addViewCommand(program),
  devices: async (program) => (await import('./devices.ts')).addDevicesCommand(program),
  export: async (program) => (await import('./export.ts')).addExportCommand(program),
  download: async (program) => (await import('./download.ts')).addDownloadCommand(program),
  demo: async (program) => (await import('./demo.ts')).addDemoCommand(program),
};

const FAILED = 1;
const WRONG_CALL = 2;

async function createProgram(name: string | undefined): Promise<Command> {
  const program = new Command('hotrod')
    .description('Deep-learning inference: a model in, an engine out, run on what the machine has')
    .version(VERSION)
    .exitOverride()
    .configureHelp({ showGlobalOptions: true })
    .showSuggestionAfterError();
  if (name === '-V' || name === '--version') return program;
  const called = name !== undefined && Object.hasOwn(COMMANDS, name) ? [COMMANDS[name]] : Object.values(COMMANDS);
  for (const add of called) await add(program);
  return program;
}

/** Says what went wrong, once, on stderr. Returns the exit code. */
function reportError(error: unknown): number {
  // Commander has written its message already; --help and --version end here too.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : WRONG_CALL;
  const isModelError = error instanceof ModelError;
  const lines = [`error: ${error instanceof Error ? error.message : String(error)}`];
  if (isModelError) {
    for (const detail of error.details) if (!error.message.includes(detail)) lines.push(`  ${detail}`);
    if (error.hint !== undefined) lines.push(`hint: ${error.hint}`);
  }
  if (debugLevel() > 0 && error instanceof Error) lines.push(error.stack ?? '');
  else if (!isModelError) lines.push('hint: set DEBUG=1 to see where this comes from');
  process.stderr.write(`${lines.join('\n')}\n`);
  return isModelError ? WRONG_CALL : FAILED;
}

// A reader that has seen enough (`hotrod inspect model.onnx | head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : FAILED));

try {
  await (await createProgram(process.argv[2])).parseAsync();
} catch (error) {
  // Threads of an engine that was open would keep the process alive.
  process.exit(reportError(error));
}
