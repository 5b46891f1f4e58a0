// supabase-js, unchanged: subscribes, prints what it hears as lines of JSON.
import { createClient } from "@supabase/supabase-js";

const [url, key, token, topic] = process.argv.slice(2);
const say = (heard) => process.stdout.write(JSON.stringify(heard) + "\n");

const supabase = createClient(url, key, {
  auth: { persistSession: false, autoRefreshToken: false },
});
await supabase.realtime.setAuth(token);

supabase
  .channel("rows")
  .on("postgres_changes", { event: "*", schema: "public", table: "notes" }, (change) =>
    say({ change: change.eventType, new: change.new, old: change.old }),
  )
  .on("system", {}, (message) => say({ system: message.message }))
  .subscribe((status) => say({ rows: status }));

const room = supabase.channel(topic, { config: { private: true, broadcast: { ack: true } } });
room
  .on("broadcast", { event: "*" }, (said) => say({ said: said.event, payload: said.payload }))
  .subscribe((status) => say({ room: status }));

const lobby = supabase.channel("lobby", { config: { broadcast: { self: true, ack: true } } });
lobby
  .on("broadcast", { event: "hello" }, (said) => say({ lobby: said.payload }))
  .on("presence", { event: "sync" }, () => say({ here: lobby.presenceState() }))
  .subscribe(async (status) => {
    say({ lobby_status: status });
    if (status !== "SUBSCRIBED") return;
    await lobby.track({ name: "ann" });
    say({ sent: await lobby.send({ type: "broadcast", event: "hello", payload: { n: 1 } }) });
  });

process.stdin.resume();
process.stdin.on("end", async () => {
  await supabase.removeAllChannels();
  say({ left: supabase.getChannels().length });
  process.exit(0);
});
