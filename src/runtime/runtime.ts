/**
 * The runtime entry (`hotrod/runtime`): loads an engine and runs it. Imports core, engine and devices; never the compiler.
 */
