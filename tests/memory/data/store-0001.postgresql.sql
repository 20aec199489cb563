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
    ended_ms bigint
);
CREATE TABLE public.customers (
    key character varying(200) NOT NULL,
    generation integer DEFAULT 1 NOT NULL,
    created_ms bigint NOT NULL
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
    at_ms bigint NOT NULL
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
CREATE TABLE public.turns (
    call_id character varying(40) NOT NULL,
    seq integer NOT NULL,
    item_id character varying(80) NOT NULL,
    role character varying(20) NOT NULL,
    text text NOT NULL,
    interrupted integer DEFAULT 0 NOT NULL,
    agent character varying(100) DEFAULT ''::character varying NOT NULL,
    at_ms bigint NOT NULL
);
CREATE TABLE public.voicectl_schema (
    version_num character varying(32) NOT NULL
);
ALTER TABLE ONLY public.profile_ops ALTER COLUMN id SET DEFAULT nextval('public.profile_ops_id_seq'::regclass);
ALTER TABLE ONLY public.refused_turns ALTER COLUMN id SET DEFAULT nextval('public.refused_turns_id_seq'::regclass);
INSERT INTO public.calls VALUES ('c1', 'user:1', 1, 'room 1 of calls', 'assistant', 'ended', '', 1, 0, '{}', 0, 1, NULL);
INSERT INTO public.calls VALUES ('c2', 'user:2', 1, 'room 2 of calls', 'assistant', 'ended', '', 2, 0, '{}', 0, 2, NULL);
INSERT INTO public.customers VALUES ('user:1', 1, 1);
INSERT INTO public.customers VALUES ('user:2', 1, 2);
INSERT INTO public.profile_lines VALUES ('user:1', 'profile', 1, 'line 1 of profile_lines', 1);
INSERT INTO public.profile_lines VALUES ('user:2', 'profile', 2, 'line 2 of profile_lines', 2);
INSERT INTO public.profile_ops VALUES (1, 'user:1', 1, 'profile', 'add', 'line 1 of profile_ops', NULL, 'tool', NULL, NULL, 1);
INSERT INTO public.profile_ops VALUES (2, 'user:2', 1, 'profile', 'add', 'line 2 of profile_ops', NULL, 'tool', NULL, NULL, 2);
INSERT INTO public.refused_turns VALUES (1, 'c1', 'item_id 1 of refused_turns', 1, 'user', 'text 1 of refused_turns', 'why 1 of refused_turns', 1);
INSERT INTO public.refused_turns VALUES (2, 'c2', 'item_id 2 of refused_turns', 2, 'user', 'text 2 of refused_turns', 'why 2 of refused_turns', 2);
INSERT INTO public.turns VALUES ('c1', 1, 'item_id 1 of turns', 'user', 'text 1 of turns', 0, '', 1);
INSERT INTO public.turns VALUES ('c2', 2, 'item_id 2 of turns', 'user', 'text 2 of turns', 0, '', 2);
INSERT INTO public.voicectl_schema VALUES ('0001');
SELECT pg_catalog.setval('public.profile_ops_id_seq', 2, true);
SELECT pg_catalog.setval('public.refused_turns_id_seq', 2, true);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT pk_calls PRIMARY KEY (id);
ALTER TABLE ONLY public.customers
    ADD CONSTRAINT pk_customers PRIMARY KEY (key);
ALTER TABLE ONLY public.profile_lines
    ADD CONSTRAINT pk_profile_lines PRIMARY KEY (customer, block, "position");
ALTER TABLE ONLY public.profile_ops
    ADD CONSTRAINT pk_profile_ops PRIMARY KEY (id);
ALTER TABLE ONLY public.refused_turns
    ADD CONSTRAINT pk_refused_turns PRIMARY KEY (id);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT pk_turns PRIMARY KEY (call_id, seq);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT uq_turns_call_id_item_id UNIQUE (call_id, item_id);
ALTER TABLE ONLY public.voicectl_schema
    ADD CONSTRAINT voicectl_schema_pkc PRIMARY KEY (version_num);
CREATE INDEX ix_calls_customer_started_ms ON public.calls USING btree (customer, started_ms);
CREATE INDEX ix_calls_room_state ON public.calls USING btree (room, state);
CREATE INDEX ix_calls_state ON public.calls USING btree (state);
CREATE INDEX ix_profile_ops_customer_id ON public.profile_ops USING btree (customer, id);
ALTER TABLE ONLY public.calls
    ADD CONSTRAINT fk_calls_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.profile_lines
    ADD CONSTRAINT fk_profile_lines_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.profile_ops
    ADD CONSTRAINT fk_profile_ops_customer FOREIGN KEY (customer) REFERENCES public.customers(key);
ALTER TABLE ONLY public.turns
    ADD CONSTRAINT fk_turns_call_id FOREIGN KEY (call_id) REFERENCES public.calls(id);
