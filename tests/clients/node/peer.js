// KafkaJS for tests/clients: the jobs of tests/clients/peer.py.
'use strict'

const readline = require('node:readline')
const crypto = require('node:crypto')
const kafkajs = require('kafkajs')

const { Kafka, CompressionCodecs, CompressionTypes, ConfigResourceTypes, logLevel } = kafkajs
const { MemberMetadata, MemberAssignment } = kafkajs.AssignerProtocol

const DEADLINE_MS = 30_000

// Codecs that need no compiler: JavaScript, WebAssembly, and one that npm brings ready made for each platform.
CompressionCodecs[CompressionTypes.Snappy] = () => require('kafkajs-snappy')()
CompressionCodecs[CompressionTypes.LZ4] = () => {
  const lz4 = require('lz4-napi')
  return {
    compress: ({ buffer }) => lz4.compressFrame(buffer),
    decompress: buffer => lz4.decompressFrame(buffer),
  }
}
let zstd
CompressionCodecs[CompressionTypes.ZSTD] = () => {
  zstd ??= (async () => {
    const loaded = require('@bokuweb/zstd-wasm')
    await loaded.init()
    return loaded
  })()
  return {
    compress: async ({ buffer }) => Buffer.from((await zstd).compress(buffer, 3)),
    // Clients that stream do not write into the frame how much comes out.
    decompress: async buffer => Buffer.from((await zstd).decompress(buffer, { defaultHeapSize: 8 << 20 })),
  }
}

const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

const encoded = data => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'))
const decoded = text => (text === null ? null : Buffer.from(text, 'base64'))

const write = message => process.stdout.write(JSON.stringify(message) + '\n')

// `new Job` settles `stopped` when it is told to stop.
class Job {
  constructor(fields) {
    Object.assign(this, fields)
    this.number = fields.job
    this.stopped = new Promise(resolve => {
      this.stop = () => {
        this.stopping = true
        resolve()
      }
    })
  }

  emit(event) {
    write({ job: this.number, ...event })
  }

  client(retries = 400) {
    return new Kafka({
      clientId: 'kafkajs',
      brokers: this.bootstrap.split(","),
      logLevel: logLevel.WARN,
      logCreator: () => ({ namespace, log }) => console.error(namespace, JSON.stringify(log)),
      retry: { initialRetryTime: 50, maxRetryTime: 300, retries },
    })
  }
}

function asHeaders(pairs) {
  const headers = {}
  for (const [name, text] of pairs) {
    const value = decoded(text)
    if (name in headers) headers[name] = [].concat(headers[name], [value])
    else headers[name] = value
  }
  return headers
}

function asRecord(topic, partition, message) {
  const headers = []
  for (const [name, values] of Object.entries(message.headers ?? {})) {
    for (const value of Array.isArray(values) ? values : [values]) headers.push([name, encoded(value)])
  }
  return {
    topic,
    partition,
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    key: encoded(message.key),
    value: encoded(message.value),
    headers,
  }
}

async function produce(job) {
  const producer = job.client().producer({
    idempotent: job.idempotent,
    maxInFlightRequests: job.idempotent ? 1 : undefined,
    retry: { retries: Number.MAX_SAFE_INTEGER },
  })
  await producer.connect()
  try {
    const answers = await producer.send({
      topic: job.topic,
      acks: -1,
      compression: CODECS[job.codec],
      messages: job.records.map(record => ({
        partition: record.partition,
        key: decoded(record.key),
        value: decoded(record.value),
        headers: asHeaders(record.headers),
        timestamp: String(record.timestamp),
      })),
    })
    // A batch per partition: the answer names each batch's first offset.
    const next = new Map(answers.map(answer => [answer.partition, Number(answer.baseOffset)]))
    return job.records.map(({ partition }) => {
      const offset = next.get(partition)
      next.set(partition, offset + 1)
      return [partition, offset]
    })
  } finally {
    await producer.disconnect()
  }
}

async function withAdmin(job, use) {
  const admin = job.client(5).admin()
  await admin.connect()
  try {
    return await use(admin)
  } finally {
    await admin.disconnect()
  }
}

async function read(job) {
  const { ends, starts } = await withAdmin(job, async admin => {
    const offsets = await admin.fetchTopicOffsets(job.topic)
    const ends = new Map(offsets.map(({ partition, high }) => [partition, Number(high)]))
    let starts = new Map(offsets.map(({ partition, low }) => [partition, Number(low)]))
    if (job.from.timestamp !== undefined) {
      const found = await admin.fetchTopicOffsetsByTimestamp(job.topic, job.from.timestamp)
      starts = new Map(found.map(({ partition, offset }) => [partition, Number(offset)]))
    } else if (job.from.offset !== undefined) {
      starts = new Map(offsets.map(({ partition, high }) => [partition, Math.min(job.from.offset, Number(high))]))
    }
    return { ends, starts }
  })
  const pending = new Set([...ends.keys()].filter(partition => starts.get(partition) < ends.get(partition)))
  if (pending.size === 0) return 0
  // KafkaJS reads in groups only.
  const group = `kafkajs-read-${crypto.randomUUID()}`
  const consumer = job.client().consumer({
    groupId: group,
    maxWaitTimeInMs: 50,
    maxBytesPerPartition: 4 << 20,
  })
  await consumer.connect()
  let timer
  let count = 0
  try {
    await consumer.subscribe({ topics: [job.topic], fromBeginning: true })
    await new Promise((resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`the ends of ${[...pending]} were not reached`)), DEADLINE_MS)
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error))
      consumer
        .run({
          eachBatch: async ({ batch, resolveOffset }) => {
            const { partition } = batch
            for (const message of batch.messages) {
              if (Number(message.offset) < starts.get(partition)) continue
              job.emit({ record: asRecord(batch.topic, partition, message) })
              count += 1
            }
            resolveOffset(batch.lastOffset())
            if (Number(batch.lastOffset()) + 1 >= ends.get(partition)) pending.delete(partition)
            if (pending.size === 0) resolve()
          },
        })
        .catch(reject)
      if (job.from !== 'earliest') {
        for (const [partition, offset] of starts) consumer.seek({ topic: job.topic, partition, offset: String(offset) })
      }
    })
    return count
  } finally {
    clearTimeout(timer)
    await consumer.disconnect()
  }
}

// Kafka's range assignor: each topic's partitions in runs, the first members getting one more.
const RangeAssigner = ({ cluster }) => ({
  name: 'range',
  version: 0,
  async assign({ members }) {
    const topics = new Map()
    for (const { memberId, memberMetadata } of members) {
      for (const topic of MemberMetadata.decode(memberMetadata).topics) {
        topics.set(topic, [...(topics.get(topic) ?? []), memberId])
      }
    }
    const assignments = new Map(members.map(({ memberId }) => [memberId, {}]))
    for (const [topic, ids] of topics) {
      await cluster.addTargetTopic(topic)
      const partitions = cluster.findTopicPartitionMetadata(topic).map(one => one.partitionId)
      partitions.sort((one, other) => one - other)
      ids.sort()
      const share = Math.floor(partitions.length / ids.length)
      const more = partitions.length % ids.length
      ids.forEach((id, index) => {
        const first = share * index + Math.min(index, more)
        assignments.get(id)[topic] = partitions.slice(first, first + share + (index < more ? 1 : 0))
      })
    }
    return [...assignments].map(([memberId, assignment]) => ({
      memberId,
      memberAssignment: MemberAssignment.encode({ version: 0, assignment }),
    }))
  },
  protocol({ topics }) {
    return { name: this.name, metadata: MemberMetadata.encode({ version: 0, topics }) }
  },
})

const STRATEGIES = { range: RangeAssigner, roundrobin: kafkajs.PartitionAssigners.roundRobin }

async function member(job) {
  const consumer = job.client().consumer({
    groupId: job.group,
    partitionAssigners: [STRATEGIES[job.strategy]],
    sessionTimeout: 6000,
    rebalanceTimeout: 20_000,
    heartbeatInterval: 300,
    maxWaitTimeInMs: 50,
  })
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    const assigned = Object.entries(payload.memberAssignment).flatMap(([topic, partitions]) =>
      partitions.map(partition => [topic, partition])
    )
    job.emit({ assigned })
  })
  consumer.on(consumer.events.REBALANCING, () => job.emit({ assigned: [] }))
  consumer.on(consumer.events.COMMIT_OFFSETS, ({ payload }) => {
    job.emit({
      committed: payload.topics.flatMap(({ topic, partitions }) =>
        partitions.map(({ partition, offset }) => [topic, partition, Number(offset)])
      ),
    })
  })
  consumer.on(consumer.events.CRASH, ({ payload }) => {
    job.emit({ trouble: String(payload.error) })
  })
  await consumer.connect()
  await consumer.subscribe({ topics: job.topics, fromBeginning: true })
  await consumer.run({
    eachBatch: async ({ batch, resolveOffset }) => {
      job.emit({ records: batch.messages.map(message => asRecord(batch.topic, batch.partition, message)) })
      resolveOffset(batch.lastOffset())
    },
  })
  await job.stopped
  await consumer.disconnect()
}

// Reads, writes and commits both in transactions; after an error it starts over, from what is committed.
async function process_(job) {
  let attempts = 0
  while (!job.stopping) {
    const producer = job.client(60).producer({
      transactionalId: job.transactional_id,
      idempotent: true,
      maxInFlightRequests: 1,
      transactionTimeout: 20_000,
      retry: { initialRetryTime: 20, maxRetryTime: 200, retries: 60 },
    })
    const consumer = job.client(60).consumer({
      groupId: job.group,
      sessionTimeout: 2000,
      rebalanceTimeout: 4000,
      heartbeatInterval: 300,
      maxWaitTimeInMs: 50,
      retry: { initialRetryTime: 20, maxRetryTime: 200, retries: 60 },
    })
    let failed = false
    try {
      await producer.connect()
      // Takes the id over, and waits until whatever was begun in its name is decided: only then is known what is committed.
      await (await producer.transaction()).abort()
      await new Promise((resolve, reject) => {
        const fail = error => {
          failed = true
          reject(error)
        }
        consumer.on(consumer.events.CRASH, ({ payload }) => fail(payload.error))
        const work = async ({ batch, heartbeat }) => {
          for (let start = 0; start < batch.messages.length && !failed && !job.stopping; start += 5) {
            const messages = batch.messages.slice(start, start + 5)
            const transaction = await producer.transaction()
            await transaction.send({
              topic: job.topic,
              acks: -1,
              messages: messages.map(({ key, value }) => ({ key, value, partition: batch.partition })),
            })
            const offset = String(Number(messages[messages.length - 1].offset) + 1)
            await transaction.sendOffsets({
              consumerGroupId: job.group,
              topics: [{ topic: batch.topic, partitions: [{ partition: batch.partition, offset }] }],
            })
            attempts += 1
            if (attempts % job.abort_every === 0) {
              await transaction.abort()
              throw new Error('aborted as asked for')
            }
            await transaction.commit()
            job.emit({ committed: messages.length })
            await heartbeat()
          }
        }
        consumer
          .connect()
          .then(() => consumer.subscribe({ topics: job.topics, fromBeginning: true }))
          .then(() =>
            consumer.run({
              autoCommit: false,
              eachBatch: payload => (failed ? Promise.resolve() : work(payload).catch(fail)),
            })
          )
          .catch(fail)
        job.stopped.then(resolve)
      })
    } catch (error) {
      job.emit({ trouble: String(error) })
    }
    await Promise.allSettled([consumer.disconnect(), producer.disconnect()])
  }
  return attempts
}

async function steady(job) {
  const producer = job.client().producer({
    idempotent: true,
    maxInFlightRequests: 1,
    retry: { initialRetryTime: 50, maxRetryTime: 300, retries: Number.MAX_SAFE_INTEGER },
  })
  await producer.connect()
  let number = 0
  while (!job.stopping) {
    const key = `${job.prefix}-${number}`
    const [answer] = await producer.send({
      topic: job.topic,
      acks: -1,
      messages: [{ partition: number % job.partitions, key, value: key }],
    })
    job.emit({ acked: [key, answer.partition, Number(answer.baseOffset)] })
    number += 1
    await new Promise(resolve => setTimeout(resolve, 5))
  }
  await producer.disconnect()
  return number
}

const RESOURCES = { topic: ConfigResourceTypes.TOPIC, broker: ConfigResourceTypes.BROKER }

const ADMIN = {
  async create_topic(admin, job) {
    const created = await admin.createTopics({
      validateOnly: job.validate_only ?? false,
      waitForLeaders: !job.validate_only,
      topics: [
        {
          topic: job.topic,
          numPartitions: job.partitions ?? -1,
          replicationFactor: job.replication_factor ?? -1,
          configEntries: Object.entries(job.configs ?? {}).map(([name, value]) => ({ name, value })),
        },
      ],
    })
    // For this one error KafkaJS answers `false`.
    if (!created) throw Object.assign(new Error('TOPIC_ALREADY_EXISTS'), { code: 36 })
    return {}
  },

  async delete_topic(admin, job) {
    await admin.deleteTopics({ topics: [job.topic] })
  },

  async create_partitions(admin, job) {
    await admin.createPartitions({ topicPartitions: [{ topic: job.topic, count: job.count }] })
  },

  async list_topics(admin) {
    return (await admin.listTopics()).sort()
  },

  async describe_topic(admin, job) {
    const { topics } = await admin.fetchTopicMetadata({ topics: [job.topic] })
    return {
      partitions: topics[0].partitions
        .map(({ partitionId, leader, replicas, isr }) => ({ partition: partitionId, leader, replicas, isr }))
        .sort((one, other) => one.partition - other.partition),
    }
  },

  async describe_cluster(admin) {
    const { brokers, controller, clusterId } = await admin.describeCluster()
    return {
      cluster_id: clusterId,
      controller,
      brokers: brokers.map(({ nodeId, host, port }) => [nodeId, host, port]),
    }
  },

  async describe_configs(admin, job) {
    const { resources } = await admin.describeConfigs({
      includeSynonyms: false,
      resources: [{ type: RESOURCES[job.type], name: job.name }],
    })
    return Object.fromEntries(
      resources[0].configEntries.map(entry => [
        entry.configName,
        {
          value: entry.configValue,
          source: entry.configSource,
          read_only: entry.readOnly,
          sensitive: entry.isSensitive,
        },
      ])
    )
  },

  async replace_configs(admin, job) {
    await admin.alterConfigs({
      validateOnly: false,
      resources: [
        {
          type: RESOURCES[job.type],
          name: job.name,
          configEntries: Object.entries(job.set).map(([name, value]) => ({ name, value })),
        },
      ],
    })
  },

  async list_groups(admin) {
    const { groups } = await admin.listGroups()
    return groups.map(({ groupId }) => ({ group: groupId }))
  },

  async describe_group(admin, job) {
    const { groups } = await admin.describeGroups([job.group])
    const [group] = groups
    return {
      state: group.state,
      protocol: group.protocol,
      members: group.members.map(({ clientId, clientHost, memberAssignment }) => ({
        client_id: clientId,
        host: clientHost,
        assigned: Object.entries(MemberAssignment.decode(memberAssignment)?.assignment ?? {})
          .flatMap(([topic, partitions]) => partitions.map(partition => [topic, partition]))
          .sort(([, one], [, other]) => one - other),
      })),
    }
  },

  async delete_group(admin, job) {
    await admin.deleteGroups([job.group])
  },

  async group_offsets(admin, job) {
    const found = await admin.fetchOffsets({ groupId: job.group })
    return found.flatMap(({ topic, partitions }) =>
      partitions.map(({ partition, offset }) => [topic, partition, Number(offset)])
    ).sort(([, one], [, other]) => one - other)
  },

  async alter_group_offsets(admin, job) {
    const topics = new Map()
    for (const [topic, partition, offset] of job.offsets) {
      topics.set(topic, [...(topics.get(topic) ?? []), { partition, offset: String(offset) }])
    }
    for (const [topic, partitions] of topics) await admin.setOffsets({ groupId: job.group, topic, partitions })
  },

  async delete_records(admin, job) {
    await admin.fetchTopicOffsets(job.topic) // it must have met the topic before
    await admin.deleteTopicRecords({
      topic: job.topic,
      partitions: [{ partition: job.partition, offset: String(job.before) }],
    })
  },

  async list_offsets(admin, job) {
    if (typeof job.at === 'number') {
      const found = await admin.fetchTopicOffsetsByTimestamp(job.topic, job.at)
      return found.map(({ partition, offset }) => [partition, Number(offset)]).sort(([one], [other]) => one - other)
    }
    const offsets = await admin.fetchTopicOffsets(job.topic)
    return offsets
      .map(({ partition, low, high }) => [partition, Number(job.at === 'earliest' ? low : high)])
      .sort(([one], [other]) => one - other)
  },
}

const JOBS = { produce, read, member, steady, process: process_, admin: job => withAdmin(job, admin => ADMIN[job.call](admin, job)) }

function code(error) {
  for (const one of [error, error.cause, ...(error.errors ?? []), ...(error.groups ?? []), ...(error.partitions ?? [])]) {
    const found = one?.code ?? one?.errorCode ?? one?.error?.code
    if (typeof found === 'number') return found
  }
  return null
}

const running = new Map()

async function run(job) {
  try {
    job.emit({ done: (await JOBS[job.do](job)) ?? null })
  } catch (error) {
    console.error(error)
    job.emit({ failed: `${error.name}: ${error.message}`, code: code(error) })
  }
}

process.on('unhandledRejection', error => console.error('unhandled', error))
write({ ready: `kafkajs ${require('kafkajs/package.json').version}` })
readline.createInterface({ input: process.stdin, crlfDelay: Infinity }).on('line', line => {
  const fields = JSON.parse(line)
  if (fields.stop) {
    running.get(fields.job).stop()
    return
  }
  const job = new Job(fields)
  running.set(job.number, job)
  run(job)
}).on('close', () => process.exit(0))
