-- name: CreateAuthor :one
INSERT INTO authors (name, bio) VALUES ($1, $2) RETURNING *;

-- name: ListAuthors :many
SELECT * FROM authors ORDER BY name;

-- name: AuthorsNamed :many
SELECT * FROM authors WHERE name = ANY (sqlc.arg(names)::text[]) ORDER BY name;

-- name: RenameAuthor :execrows
UPDATE authors SET name = $2 WHERE id = $1;

-- name: CreateBook :one
INSERT INTO books (author_id, title, tags, meta, published) VALUES ($1, $2, $3, $4, $5) RETURNING *;

-- name: BooksOf :many
SELECT sqlc.embed(books), authors.name AS author
FROM books JOIN authors ON authors.id = books.author_id
WHERE authors.id = $1 ORDER BY books.id;
