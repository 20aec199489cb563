SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE FUNCTION public.turn_words(customer text, said text) RETURNS tsvector
    LANGUAGE sql STABLE
    AS $_$
SELECT array_to_tsvector(ARRAY['k' || encode(convert_to(customer, 'UTF8'), 'hex')]) || strip(to_tsvector(
    'pg_catalog.simple', translate(left(said, 20000), '!"#$&''()*+,-./:;<=>?@[\]^_`{|}~…‘’“”–—।¿¡«»、。‌‍', repeat(' ', 47))
))
$_$;
CREATE FUNCTION public.turn_words_said() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NEW.role IN ('user', 'assistant') THEN
        NEW.words := (SELECT turn_words(calls.customer, NEW.text) FROM calls WHERE calls.id = NEW.call_id);
    END IF;
    RETURN NEW;
END
$$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.calls (
    id character varying(40) NOT NULL,
    customer character varying(200) NOT NULL,
    generation integer NOT NULL,
    room character varying(300) NOT NULL,
    desk character varying(100) NOT NULL,
    state character varying(10) NOT NULL,
    reason character varying(200) DEFAULT ''::character varying NOT NULL,
    fence bigint NOT NULL,
    last_seq integer DEFAULT 0 NOT NULL,
    progress text DEFAULT '{}'::text NOT NULL,
    learnt integer DEFAULT 0 NOT NULL,
    started_ms bigint NOT NULL,
    ended_ms bigint,
    mirror character varying(10) DEFAULT 'open'::character varying NOT NULL
);
CREATE TABLE public.customers (
    key character varying(200) NOT NULL,
    generation integer DEFAULT 1 NOT NULL,
    created_ms bigint NOT NULL
);
CREATE TABLE public.dead_letters (
    call_id character varying(40) NOT NULL,
    seq integer NOT NULL,
    state character varying(10) NOT NULL,
    why text NOT NULL,
    at_ms bigint NOT NULL
);
CREATE TABLE public.desk_agents (
    agent_id character varying(80) NOT NULL,
    name character varying(200) DEFAULT ''::character varying NOT NULL,
    system text DEFAULT ''::text NOT NULL,
    no_calls character varying(200) DEFAULT ''::character varying NOT NULL,
    revision integer DEFAULT 0 NOT NULL,
    read_ms bigint DEFAULT '0'::bigint NOT NULL,
    gone_ms bigint
);
CREATE TABLE public.desk_blocks (
    agent_id character varying(80) NOT NULL,
    label character varying(200) NOT NULL,
    text text NOT NULL
);
CREATE TABLE public.desk_policies (
    id bigint NOT NULL,
    desk character varying(100) NOT NULL,
    text text NOT NULL,
    source character varying(20) NOT NULL,
    at_ms bigint NOT NULL
);
CREATE SEQUENCE public.desk_policies_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.desk_policies_id_seq OWNED BY public.desk_policies.id;
CREATE TABLE public.desk_policy_blocks (
    name character varying(100) NOT NULL,
    block_id character varying(80),
    exchanged text,
    sending text,
    refused text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.desks (
    name character varying(40) NOT NULL,
    title character varying(100) NOT NULL,
    agent_id character varying(80) NOT NULL,
    added_ms bigint NOT NULL
);
CREATE TABLE public.forgotten (
    customer character varying(16) NOT NULL,
    generation integer NOT NULL,
    letta character varying(10) NOT NULL,
    to_do text DEFAULT ''::text NOT NULL,
    empty_ms bigint,
    checked_ms bigint DEFAULT '0'::bigint NOT NULL,
    at_ms bigint NOT NULL
);
CREATE TABLE public.forgotten_calls (
    call_id character varying(40) NOT NULL
);
CREATE TABLE public.letta_agents (
    customer character varying(200) NOT NULL,
    generation integer NOT NULL,
    agent_id character varying(80),
    model character varying(300) DEFAULT ''::character varying NOT NULL,
    description text DEFAULT ''::text NOT NULL,
    seen_op bigint DEFAULT '0'::bigint NOT NULL,
    checked_ms bigint DEFAULT '0'::bigint NOT NULL
);
CREATE TABLE public.letta_batches (
    id bigint NOT NULL,
    call_id character varying(40) NOT NULL,
    conversation_id character varying(80) NOT NULL,
    first_seq integer NOT NULL,
    last_seq integer NOT NULL,
    state character varying(10) NOT NULL,
    deadline_ms bigint NOT NULL,
    absent_ms bigint
);
CREATE SEQUENCE public.letta_batches_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.letta_batches_id_seq OWNED BY public.letta_batches.id;
CREATE TABLE public.letta_blocks (
    customer character varying(200) NOT NULL,
    block character varying(50) NOT NULL,
    block_id character varying(80) NOT NULL,
    exchanged text,
    sending text,
    refused text DEFAULT ''::text NOT NULL
);
CREATE TABLE public.letta_conversations (
    call_id character varying(40) NOT NULL,
    attempt integer DEFAULT 1 NOT NULL,
    conversation_id character varying(80),
    mode character varying(10) NOT NULL,
    mirrored_seq integer DEFAULT 0 NOT NULL,
    last_error text DEFAULT ''::text NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    agent_id character varying(80)
);
CREATE TABLE public.letta_policies (
    customer character varying(200) NOT NULL,
    agent_id character varying(80) NOT NULL,
    block_id character varying(80) NOT NULL
);
CREATE TABLE public.memory_steps (
    call_id character varying(40) NOT NULL,
    state character varying(10) NOT NULL,
    attempt integer NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    strategy character varying(10) NOT NULL,
    model character varying(100) DEFAULT ''::character varying NOT NULL,
    base_op bigint NOT NULL,
    conversation_id character varying(80),
    due_ms bigint NOT NULL,
    deadline_ms bigint NOT NULL,
    learnt integer DEFAULT 0 NOT NULL,
    refused integer DEFAULT 0 NOT NULL,
    refusals text DEFAULT '[]'::text NOT NULL,
    why text DEFAULT ''::text NOT NULL,
    at_ms bigint NOT NULL
);
CREATE TABLE public.profile_lines (
    customer character varying(200) NOT NULL,
    block character varying(50) NOT NULL,
    "position" bigint NOT NULL,
    line text NOT NULL,
    op_id bigint NOT NULL
);
CREATE TABLE public.profile_ops (
    id bigint NOT NULL,
    customer character varying(200) NOT NULL,
    generation integer NOT NULL,
    block character varying(50) NOT NULL,
    op character varying(10) NOT NULL,
    line text NOT NULL,
    old_line text,
    source character varying(20) NOT NULL,
    call_id character varying(40),
    item_id character varying(80),
    at_ms bigint NOT NULL,
    "position" bigint,
    overruled_by bigint,
    undoes bigint,
    model character varying(100)
);
CREATE SEQUENCE public.profile_ops_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.profile_ops_id_seq OWNED BY public.profile_ops.id;
CREATE TABLE public.refused_turns (
    id bigint NOT NULL,
    call_id character varying(40) NOT NULL,
    item_id character varying(80) NOT NULL,
    fence bigint NOT NULL,
    role character varying(20) NOT NULL,
    text text NOT NULL,
    why character varying(200) NOT NULL,
    at_ms bigint NOT NULL
);
CREATE SEQUENCE public.refused_turns_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.refused_turns_id_seq OWNED BY public.refused_turns.id;
CREATE TABLE public.room_counts (
    event character varying(20) NOT NULL,
    number bigint NOT NULL
);
CREATE TABLE public.room_log (
    id bigint NOT NULL,
    at_ms bigint NOT NULL,
    event character varying(20) NOT NULL,
    room character varying(300) NOT NULL,
    ours character varying(200) NOT NULL,
    our_fence bigint NOT NULL,
    theirs character varying(200) NOT NULL,
    their_fence bigint NOT NULL,
    why character varying(500) NOT NULL
);
CREATE SEQUENCE public.room_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.room_log_id_seq OWNED BY public.room_log.id;
CREATE TABLE public.sync_status (
    name character varying(250) NOT NULL,
    state character varying(10) NOT NULL,
    why text DEFAULT ''::text NOT NULL,
    since_ms bigint NOT NULL,
    at_ms bigint NOT NULL
);
CREATE TABLE public.tool_effects (
    key character varying(64) NOT NULL,
    call_id character varying(40) NOT NULL,
    turn_item character varying(80) NOT NULL,
    tool character varying(100) NOT NULL,
    arguments text NOT NULL,
    state character varying(10) NOT NULL,
    result text DEFAULT ''::text NOT NULL,
    at_seq integer NOT NULL,
    at_ms bigint NOT NULL
);
CREATE TABLE public.turns (
    call_id character varying(40) NOT NULL,
    seq integer NOT NULL,
    item_id character varying(80) NOT NULL,
    role character varying(20) NOT NULL,
    text text NOT NULL,
    interrupted integer DEFAULT 0 NOT NULL,
    agent character varying(100) DEFAULT ''::character varying NOT NULL,
    at_ms bigint NOT NULL,
    words tsvector
);
CREATE TABLE public.voicectl_schema (
    version_num character varying(32) NOT NULL
);
ALTER TABLE ONLY public.desk_policies ALTER COLUMN id SET DEFAULT nextval('public.desk_policies_id_seq'::regclass);
ALTER TABLE ONLY public.letta_batches ALTER COLUMN id SET DEFAULT nextval('public.letta_batches_id_seq'::regclass);
ALTER TABLE ONLY public.profile_ops ALTER COLUMN id SET DEFAULT nextval('public.profile_ops_id_seq'::regclass);
ALTER TABLE ONLY public.refused_turns ALTER COLUMN id SET DEFAULT nextval('public.refused_turns_id_seq'::regclass);
ALTER TABLE ONLY public.room_log ALTER COLUMN id SET DEFAULT nextval('public.room_log_id_seq'::regclass);
INSERT INTO public.calls VALUES ('c1', 'user:1', 1, 'room 1 of calls', 'assistant', 'ended', '', 1, 0, '{}', 0, 1, NULL, 'open');
INSERT INTO public.calls VALUES ('c2', 'user:2', 1, 'room 2 of calls', 'assistant', 'ended', '', 2, 0, '{}', 0, 2, NULL, 'open');
INSERT INTO public.customers VALUES ('user:1', 1, 1);
INSERT INTO public.customers VALUES ('user:2', 1, 2);
INSERT INTO public.dead_letters VALUES ('c1', 1, 'ended', 'why 1 of dead_letters', 1);
INSERT INTO public.dead_letters VALUES ('c2', 2, 'ended', 'why 2 of dead_letters', 2);
INSERT INTO public.desk_agents VALUES ('agent_id 1 of desk_agents', '', '', '', 0, 0, NULL);
INSERT INTO public.desk_agents VALUES ('agent_id 2 of desk_agents', '', '', '', 0, 0, NULL);
INSERT INTO public.desk_blocks VALUES ('agent_id 1 of desk_blocks', 'label 1 of desk_blocks', 'text 1 of desk_blocks');
INSERT INTO public.desk_blocks VALUES ('agent_id 2 of desk_blocks', 'label 2 of desk_blocks', 'text 2 of desk_blocks');
INSERT INTO public.desk_policies VALUES (1, 'assistant', 'text 1 of desk_policies', 'tool', 1);
INSERT INTO public.desk_policies VALUES (2, 'assistant', 'text 2 of desk_policies', 'tool', 2);
INSERT INTO public.desk_policy_blocks VALUES ('name 1 of desk_policy_blocks', NULL, NULL, NULL, '');
INSERT INTO public.desk_policy_blocks VALUES ('name 2 of desk_policy_blocks', NULL, NULL, NULL, '');
INSERT INTO public.desks VALUES ('name 1 of desks', 'title 1 of desks', 'agent_id 1 of desks', 1);
INSERT INTO public.desks VALUES ('name 2 of desks', 'title 2 of desks', 'agent_id 2 of desks', 2);
INSERT INTO public.forgotten VALUES ('user:1', 1, 'letta 1 of', '', NULL, 0, 1);
INSERT INTO public.forgotten VALUES ('user:2', 1, 'letta 2 of', '', NULL, 0, 2);
INSERT INTO public.forgotten_calls VALUES ('c1');
INSERT INTO public.forgotten_calls VALUES ('c2');
INSERT INTO public.letta_agents VALUES ('user:1', 1, NULL, '', '', 0, 0);
INSERT INTO public.letta_agents VALUES ('user:2', 1, NULL, '', '', 0, 0);
INSERT INTO public.letta_batches VALUES (1, 'c1', 'conversation_id 1 of letta_batches', 1, 1, 'ended', 1, NULL);
INSERT INTO public.letta_batches VALUES (2, 'c2', 'conversation_id 2 of letta_batches', 2, 2, 'ended', 2, NULL);
INSERT INTO public.letta_blocks VALUES ('user:1', 'profile', 'block_id 1 of letta_blocks', NULL, NULL, '');
INSERT INTO public.letta_blocks VALUES ('user:2', 'profile', 'block_id 2 of letta_blocks', NULL, NULL, '');
INSERT INTO public.letta_conversations VALUES ('c1', 1, NULL, 'null', 0, '', 0, NULL);
INSERT INTO public.letta_conversations VALUES ('c2', 1, NULL, 'null', 0, '', 0, NULL);
INSERT INTO public.letta_policies VALUES ('user:1', 'agent_id 1 of letta_policies', 'block_id 1 of letta_policies');
INSERT INTO public.letta_policies VALUES ('user:2', 'agent_id 2 of letta_policies', 'block_id 2 of letta_policies');
INSERT INTO public.memory_steps VALUES ('c1', 'ended', 1, 0, 'strategy 1', '', 1, NULL, 1, 1, 0, 0, '[]', '', 1);
INSERT INTO public.memory_steps VALUES ('c2', 'ended', 2, 0, 'strategy 2', '', 2, NULL, 2, 2, 0, 0, '[]', '', 2);
INSERT INTO public.profile_lines VALUES ('user:1', 'profile', 1, 'line 1 of profile_lines', 1);
INSERT INTO public.profile_lines VALUES ('user:2', 'profile', 2, 'line 2 of profile_lines', 2);
INSERT INTO public.profile_ops VALUES (1, 'user:1', 1, 'profile', 'add', 'line 1 of profile_ops', NULL, 'tool', NULL, NULL, 1, NULL, NULL, NULL, NULL);
INSERT INTO public.profile_ops VALUES (2, 'user:2', 1, 'profile', 'add', 'line 2 of profile_ops', NULL, 'tool', NULL, NULL, 2, NULL, NULL, NULL, NULL);
INSERT INTO public.refused_turns VALUES (1, 'c1', 'item_id 1 of refused_turns', 1, 'user', 'text 1 of refused_turns', 'why 1 of refused_turns', 1);
INSERT INTO public.refused_turns VALUES (2, 'c2', 'item_id 2 of refused_turns', 2, 'user', 'text 2 of refused_turns', 'why 2 of refused_turns', 2);
INSERT INTO public.room_counts VALUES ('event 1 of room_coun', 1);
INSERT INTO public.room_counts VALUES ('event 2 of room_coun', 2);
INSERT INTO public.room_log VALUES (1, 1, 'event 1 of room_log', 'room 1 of room_log', 'ours 1 of room_log', 1, 'theirs 1 of room_log', 1, 'why 1 of room_log');
INSERT INTO public.room_log VALUES (2, 2, 'event 2 of room_log', 'room 2 of room_log', 'ours 2 of room_log', 2, 'theirs 2 of room_log', 2, 'why 2 of room_log');
INSERT INTO public.sync_status VALUES ('name 1 of sync_status', 'ended', '', 1, 1);
INSERT INTO public.sync_status VALUES ('name 2 of sync_status', 'ended', '', 2, 2);
INSERT INTO public.tool_effects VALUES ('key 1 of tool_effects', 'c1', 'turn_item 1 of tool_effects', 'tool 1 of tool_effects', 'arguments 1 of tool_effects', 'ended', '', 1, 1);
INSERT INTO public.tool_effects VALUES ('key 2 of tool_effects', 'c2', 'turn_item 2 of tool_effects', 'tool 2 of tool_effects', 'arguments 2 of tool_effects', 'ended', '', 2, 2);
INSERT INTO public.turns VALUES ('c1', 1, 'item_id 1 of turns', 'user', 'text 1 of turns', 0, '', 1, '''1'' ''k757365723a31'' ''of'' ''text'' ''turns''');
INSERT INTO public.turns VALUES ('c2', 2, 'item_id 2 of turns', 'user', 'text 2 of turns', 0, '', 2, '''2'' ''k757365723a32'' ''of'' ''text'' ''turns''');
INSERT INTO public.voicectl_schema VALUES ('0009');
SELECT pg_catalog.setval('public.desk_policies_id_seq', 2, true);
SELECT pg_catalog.setval('public.letta_batches_id_seq', 2, true);
SELECT pg_catalog.setval('public.profile_ops_id_seq', 2, true);
SELECT pg_catalog.setval('public.refused_turns_id_seq', 2, true);
SELECT pg_catalog.setval('public.room_log_id_seq', 2, true);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT pk_calls PRIMARY KEY (id);
ALTER TABLE ONLY public.customers
    ADD CONSTRAINT pk_customers PRIMARY KEY (key);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT pk_dead_letters PRIMARY KEY (call_id, seq);
ALTER TABLE ONLY public.desk_agents
    ADD CONSTRAINT pk_desk_agents PRIMARY KEY (agent_id);
ALTER TABLE ONLY public.desk_blocks
    ADD CONSTRAINT pk_desk_blocks PRIMARY KEY (agent_id, label);
ALTER TABLE ONLY public.desk_policies
    ADD CONSTRAINT pk_desk_policies PRIMARY KEY (id);
ALTER TABLE ONLY public.desk_policy_blocks
    ADD CONSTRAINT pk_desk_policy_blocks PRIMARY KEY (name);
ALTER TABLE ONLY public.desks
    ADD CONSTRAINT pk_desks PRIMARY KEY (name);
ALTER TABLE ONLY public.forgotten
    ADD CONSTRAINT pk_forgotten PRIMARY KEY (customer);
ALTER TABLE ONLY public.forgotten_calls
    ADD CONSTRAINT pk_forgotten_calls PRIMARY KEY (call_id);
ALTER TABLE ONLY public.letta_agents
    ADD CONSTRAINT pk_letta_agents PRIMARY KEY (customer);
ALTER TABLE ONLY public.letta_batches
    ADD CONSTRAINT pk_letta_batches PRIMARY KEY (id);
ALTER TABLE ONLY public.letta_blocks
    ADD CONSTRAINT pk_letta_blocks PRIMARY KEY (customer, block);
ALTER TABLE ONLY public.letta_conversations
    ADD CONSTRAINT pk_letta_conversations PRIMARY KEY (call_id);
ALTER TABLE ONLY public.letta_policies
    ADD CONSTRAINT pk_letta_policies PRIMARY KEY (customer);
ALTER TABLE ONLY public.memory_steps
    ADD CONSTRAINT pk_memory_steps PRIMARY KEY (call_id);
ALTER TABLE ONLY public.profile_lines
    ADD CONSTRAINT pk_profile_lines PRIMARY KEY (customer, block, "position");
ALTER TABLE ONLY public.profile_ops
    ADD CONSTRAINT pk_profile_ops PRIMARY KEY (id);
ALTER TABLE ONLY public.refused_turns
    ADD CONSTRAINT pk_refused_turns PRIMARY KEY (id);
ALTER TABLE ONLY public.room_counts
    ADD CONSTRAINT pk_room_counts PRIMARY KEY (event);
ALTER TABLE ONLY public.room_log
    ADD CONSTRAINT pk_room_log PRIMARY KEY (id);
ALTER TABLE ONLY public.sync_status
    ADD CONSTRAINT pk_sync_status PRIMARY KEY (name);
ALTER TABLE ONLY public.tool_effects
    ADD CONSTRAINT pk_tool_effects PRIMARY KEY (key);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT pk_turns PRIMARY KEY (call_id, seq);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT uq_turns_call_id_item_id UNIQUE (call_id, item_id);
ALTER TABLE ONLY public.voicectl_schema
    ADD CONSTRAINT voicectl_schema_pkc PRIMARY KEY (version_num);
CREATE INDEX ix_calls_customer_started_ms ON public.calls USING btree (customer, started_ms);
CREATE INDEX ix_calls_learnt_state ON public.calls USING btree (learnt, state);
CREATE INDEX ix_calls_mirror ON public.calls USING btree (mirror);
CREATE INDEX ix_calls_room_state ON public.calls USING btree (room, state);
CREATE INDEX ix_calls_state ON public.calls USING btree (state);
CREATE INDEX ix_desk_policies_desk_id ON public.desk_policies USING btree (desk, id);
CREATE INDEX ix_letta_agents_checked_ms ON public.letta_agents USING btree (checked_ms);
CREATE INDEX ix_letta_batches_call_id_state ON public.letta_batches USING btree (call_id, state);
CREATE INDEX ix_memory_steps_state ON public.memory_steps USING btree (state);
CREATE INDEX ix_profile_ops_customer_id ON public.profile_ops USING btree (customer, id);
CREATE INDEX ix_refused_turns_call_id_item_id ON public.refused_turns USING btree (call_id, item_id);
CREATE INDEX ix_room_log_at_ms ON public.room_log USING btree (at_ms);
CREATE INDEX ix_room_log_room_id ON public.room_log USING btree (room, id);
CREATE INDEX ix_tool_effects_call_id ON public.tool_effects USING btree (call_id);
CREATE INDEX ix_turns_words ON public.turns USING gin (words) WITH (fastupdate=off);
CREATE TRIGGER turn_words_said BEFORE INSERT OR UPDATE OF text ON public.turns FOR EACH ROW EXECUTE FUNCTION public.turn_words_said();
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT fk_calls_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT fk_dead_letters_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.letta_agents
    ADD CONSTRAINT fk_letta_agents_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.letta_batches
    ADD CONSTRAINT fk_letta_batches_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.letta_blocks
    ADD CONSTRAINT fk_letta_blocks_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.letta_conversations
    ADD CONSTRAINT fk_letta_conversations_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.letta_policies
    ADD CONSTRAINT fk_letta_policies_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.memory_steps
    ADD CONSTRAINT fk_memory_steps_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.profile_lines
    ADD CONSTRAINT fk_profile_lines_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.profile_ops
    ADD CONSTRAINT fk_profile_ops_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.tool_effects
    ADD CONSTRAINT fk_tool_effects_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT fk_turns_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
