CREATE TABLE authors (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text   NOT NULL UNIQUE,
    bio  text
);

CREATE TABLE books (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    author_id bigint      NOT NULL REFERENCES authors,
    title     text        NOT NULL,
    tags      text[]      NOT NULL DEFAULT '{}',
    meta      jsonb       NOT NULL DEFAULT '{}',
    published timestamptz NOT NULL DEFAULT now()
);
