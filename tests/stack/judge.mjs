// supabase-js, unchanged, on a running stack: prints what it saw as one line of JSON.

import { randomUUID } from 'node:crypto'

import { createClient } from '@supabase/supabase-js'

const facts = JSON.parse(process.env.FACTS)
const [ada, ben] = facts.users
const PATIENCE_MS = 15_000

async function clientOf(user, key = facts.anon_key) {
  const client = createClient(facts.supabase_url, key, {
    auth: { persistSession: false, autoRefreshToken: false },
    ...(user && { accessToken: async () => user.jwt }),
  })
  // https://supabase.com/docs/guides/realtime/authorization
  if (user) await client.realtime.setAuth()
  return client
}

async function eventually(check, what, heard) {
  const giveUpAt = Date.now() + PATIENCE_MS
  for (;;) {
    const answer = check()
    if (answer) return answer
    if (Date.now() > giveUpAt) {
      throw new Error(`not in time: ${what}; heard ${JSON.stringify(heard)}`)
    }
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

function subscribed(channel) {
  return new Promise((resolve) => {
    channel.subscribe((state, error) => {
      if (state !== 'CLOSED') resolve(error ? `${state}: ${error.message}` : state)
    })
  })
}

async function listenToTopic(client, organization) {
  const heard = []
  const channel = client.channel(`org:${organization}`, { config: { private: true } })
  channel.on('broadcast', { event: '*' }, ({ payload }) => heard.push(payload))
  return { heard, state: await subscribed(channel) }
}

async function listenToChanges(client, table) {
  const heard = []
  const channel = client.channel(`changes-${randomUUID()}`)
  const streaming = new Promise((resolve) => channel.on('system', {}, resolve))
  channel.on('postgres_changes', { event: '*', schema: 'public', table }, (change) =>
    heard.push(change),
  )
  const state = await subscribed(channel)
  await streaming
  return { heard, state }
}

const hers = await clientOf(ada)
const his = await clientOf(ben)
const nobody = await clientOf(null)
const service = await clientOf(null, facts.service_role_key)

const topic = await listenToTopic(hers, ada.organization)
const changes = await listenToChanges(hers, 'clients')
const hisTopic = await listenToTopic(his, ben.organization)
const hisChanges = await listenToChanges(his, 'clients')
const nobodysChanges = await listenToChanges(nobody, 'clients')
const intruder = await listenToTopic(await clientOf(ben), ada.organization)

const table = hers.from('clients')
const row = { organization_id: ada.organization, name: 'Grace' }
const added = await table.insert(row).select().single()
const id = added.data.id
const about = (one) => (one.record ?? one.new)?.id ?? (one.old_record ?? one.old)?.id
const ofRow = (heard) => heard.filter((one) => about(one) === id)
// Who may see a row is asked when its change is looked at: a row that is gone by then is
// nobody's any more. So each change is heard before the next is made.
const hear = (count) =>
  eventually(() => ofRow(changes.heard).length >= count, `row change ${count}`, changes)
await hear(1)
const updated = await table.update({ name: 'Hopper' }).eq('id', id).select().single()
const seenByBen = await his.from('clients').select('*').eq('id', id)
const changedByBen = await his.from('clients').update({ name: 'B' }).eq('id', id).select()
const addedByBen = await his.from('clients').insert(row)
const seenByNobody = await nobody.from('clients').select('*')
await hear(2)
const deleted = await service.from('clients').delete().eq('id', id)
await hear(3)

const mark = await his
  .from('clients')
  .insert({ organization_id: ben.organization, name: 'The mark' })
  .select()
  .single()

const isMarked = ({ heard }) => heard.some((one) => about(one) === mark.data.id)
await eventually(() => ofRow(topic.heard).length >= 3, 'broadcasts', topic)
await eventually(() => isMarked(hisTopic), "the mark's broadcast", hisTopic)
await eventually(() => isMarked(hisChanges), "the mark's row change", hisChanges)

console.log(
  JSON.stringify({
    added: added.data,
    updated: updated.data,
    seenByBen: seenByBen.data,
    changedByBen: changedByBen.data,
    addedByBen: addedByBen.error?.code,
    seenByNobody: seenByNobody.error?.code,
    deleted: deleted.status,
    states: [topic, changes, hisTopic, hisChanges].map(({ state }) => state),
    intruder: intruder.state,
    broadcasts: ofRow(topic.heard),
    changes: ofRow(changes.heard),
    heardByOthers: [hisTopic, hisChanges].flatMap(({ heard }) => ofRow(heard)),
    heardByNobody: nobodysChanges.heard.flatMap((one) => [one.new, one.old]),
    heardByIntruder: intruder.heard,
  }),
)
process.exit(0)
