// /// script
// dependencies = ["bullmq@6.7.0", "ioredis@6.0.0"]
// [tool.bench]
// docs = [
//   "https://docs.bullmq.io/guide/workers/concurrency: concurrency of a worker for jobs that wait; 100 to 300 are named",
//   "https://docs.bullmq.io/guide/queues/auto-removal-of-jobs: removeOnComplete, so that Redis does not fill",
//   "https://docs.bullmq.io/guide/queues/adding-bulks: addBulk",
// ]
// note = "Its bodies' evidence is written each 5 ms, as JavaScript has no memory-mapped files; the time of the last body is exact."
// queued = "LLEN bull:bench:wait"
// wide = { by = "concurrency" }
// limits = true
// [[tool.bench.settings]]
// concurrency = 100
// [[tool.bench.settings]]
// concurrency = 300
// ///
// BullMQ on Node.js, one queue and one worker process.
'use strict'

const fs = require('node:fs')
const path = require('node:path')
const { setTimeout: sleep } = require('node:timers/promises')
const { Queue, Worker } = require('bullmq')

const SETTINGS = JSON.parse(process.env.BENCH_SETTINGS || '{}')
const EVIDENCE = process.env.BENCH_EVIDENCE
const BULK = 500
const CALLERS = 100
const TICK = 0.01
const QUEUE = 'bench'
const connection = { host: SETTINGS.host, port: SETTINGS.port, maxRetriesPerRequest: null }

// CLOCK_MONOTONIC, as Python's time.monotonic
const now = () => Number(process.hrtime.bigint()) / 1e9

function mark(text) {
  fs.appendFileSync(path.join(EVIDENCE, 'marks'), `${now().toFixed(6)} ${process.pid} ${text}\n`)
}

class Tally {
  constructor() {
    this.file = fs.openSync(path.join(EVIDENCE, `tally-${process.env.BENCH_WORKER}-${process.pid}-0`), 'w')
    this.cells = new Float64Array(3)
    this.written = -1
    setInterval(() => this.write(), 5)
  }

  add() {
    this.cells[2] = now()
    if (this.cells[1]++ === 0) this.cells[0] = this.cells[2]
  }

  write() {
    if (this.cells[1] === this.written) return
    this.written = this.cells[1]
    fs.writeSync(this.file, new Uint8Array(this.cells.buffer), 0, 24, 0)
  }
}

const ARGUMENTS = { noop: [], probe: ['sent'], hold: ['number', 'seconds'], wait: ['seconds'], scarce: ['number', 'seconds'] }
const OPTIONS = { removeOnComplete: true, removeOnFail: true }
const data = (body, args) => Object.fromEntries(ARGUMENTS[body].map((name, at) => [name, args[at]]))

function work() {
  const tally = new Tally()
  const bodies = {
    noop: async () => tally.add(),
    probe: async ({ sent }) => mark(`probe ${(now() - sent).toFixed(6)}`),
    hold: async ({ number, seconds }) => {
      mark(`hold ${number}`)
      await sleep(seconds * 1000)
    },
    wait: async ({ seconds }) => {
      await sleep(seconds * 1000)
      tally.add()
    },
    scarce: async ({ number, seconds }) => {
      mark(`begin ${number}`)
      await sleep(seconds * 1000)
      mark(`end ${number}`)
    },
  }
  const worker = new Worker(QUEUE, (job) => bodies[job.name](job.data), { connection, concurrency: SETTINGS.concurrency })
  worker.on('error', (error) => console.error(error))
}

class Stop {
  constructor({ jobs, seconds }) {
    this.left = jobs ?? Infinity
    this.until = seconds === undefined ? Infinity : now() + seconds
  }

  take(most) {
    if (now() >= this.until) return 0
    const taken = Math.min(most, this.left)
    this.left -= taken
    return taken
  }
}

async function store(queue, way, stop, body, args) {
  let stored = 0
  const caller = async () => {
    while (stop.take(1)) {
      await queue.add(body, data(body, args), OPTIONS)
      stored++
    }
  }
  if (way === 'bulk') {
    for (let taken; (taken = stop.take(BULK)); stored += taken) {
      await queue.addBulk(Array.from({ length: taken }, () => ({ name: body, data: data(body, args), opts: OPTIONS })))
    }
  } else {
    await Promise.all(Array.from({ length: way === 'one' ? 1 : CALLERS }, caller))
  }
  return stored
}

async function feed(queue, rate, seconds) {
  const tick = rate ? TICK : 0.025
  const began = now()
  let stored = 0
  let probes = 0
  for (let passed; (passed = now() - began) < seconds; ) {
    const due = Math.floor(rate * passed) - stored
    if (due > 0) stored += await store(queue, 'bulk', new Stop({ jobs: Math.min(due, 5000) }), 'noop', [])
    await queue.add('probe', data('probe', [now()]), OPTIONS)
    probes++
    await sleep(Math.max(0, began + probes * tick - now()) * 1000)
  }
  return { jobs: stored, probes, seconds: now() - began }
}

async function produce(command, order) {
  const queue = new Queue(QUEUE, { connection })
  await queue.waitUntilReady()
  try {
    if (command === 'feed') return await feed(queue, order.rate, order.seconds)
    if (command === 'number') {
      // its limit over all workers is one of the queue's, not of a kind of job
      if (SETTINGS.limit) await queue.setGlobalConcurrency(SETTINGS.limit)
      for (let number = 0; number < order.jobs; number++) await queue.add(order.body, { number, seconds: order.seconds }, OPTIONS)
      return { jobs: order.jobs }
    }
    const began = now()
    const stored = await store(queue, order.way, new Stop(order), order.body ?? 'noop', order.args ?? [])
    return { jobs: stored, seconds: now() - began }
  } finally {
    await queue.close()
  }
}

const [command, order] = process.argv.slice(2)
if (command === 'work') work()
else produce(command, JSON.parse(order)).then((said) => console.log(JSON.stringify(said)))
