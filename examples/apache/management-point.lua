--[[
A management point in Apache httpd asks cmblock for each request: may it be served?

mod_lua calls one of the functions at the end, once for every request, also for those that follow on a connection that
is open already. They differ in what they believe of the requester:

	https			the certificate that the TLS connection was made with; cmblock judges it by its trust list and CRLs
	enhanced_http	the same, but a self-signed certificate that is registered will do
	http			a signature in the headers, made with the private key of the client's self-signed certificate
	forwarded		what another server says of its request, in the headers Forwarded-Transport and Forwarded-Certificate

Answers: 403 and the reason in the header Cmblock-Reason, when cmblock refuses; 503 when there is no decision,
whatever went wrong; else the request goes on, and who it is from is in the variables CMBLOCK_CLIENT and
CMBLOCK_ASSURANCE, for the application behind. Nothing that a stranger sends is an SQL error: it is looked at before.

With LuaScope thread, each worker thread keeps its Lua state from request to request, and so its connection.
Where the database is, and how long it may take, says the service management_point in libpq's pg_service.conf.
]]

local luasql = require "luasql.postgres"
local digest = require "openssl.digest"
local x509 = require "openssl.x509"

-- The first part of the path says what is asked for. Registration is open to clients that nobody knows yet, so a path
-- must not pass for another one: httpd has decoded and normalised it when it gets here.
local REQUEST = {
	policy = true, inventory = true, state_message = true, status_message = true,
	registration = true, content = true, os_deployment = true,
}

local RETRY_AFTER = 1000000 -- µs, for which a database that could not be reached is not tried again
local SIGNED_WITHIN = 300   -- s, by which a client's clock may be wrong, and for which a signature can be used again

-- ---------- the database ----------

local environment = luasql.postgres()
local connection
local last_failure

local function connect(now)
	local err, done

	if last_failure and now - last_failure < RETRY_AFTER then
		return nil, "the database could not be reached a moment ago"
	end
	connection, err = environment:connect("service=management_point")
	if connection then
		done, err = connection:execute([[
			PREPARE decide (cmblock.smsid, bytea, cmblock.transport, cmblock.request_kind, text) AS
			SELECT allowed, reason, assurance, client, detail FROM cmblock.check_access($1, $2, $3, $4, $5)]])
		if done then
			last_failure = nil
			return true
		end
		connection:close()
		connection = nil
	end
	last_failure = now
	return nil, err
end

local function literal(text)
	return text and "'" .. connection:escape(text) .. "'" or "NULL"
end

local function ask(certificate, client, transport, request, hardware)
	local cursor, err = connection:execute("EXECUTE decide(" .. literal(client) .. ", " .. literal(certificate)
		.. ", " .. literal(transport) .. ", " .. literal(request) .. ", " .. literal(hardware) .. ")")
	local row

	if cursor then
		row = cursor:fetch({}, "a")
		cursor:close()
		if row then
			return row
		end
	end
	connection:close()
	connection = nil
	return nil, err or "the database sent no row"
end

-- A connection that was kept may have died meanwhile: a restart, a failover, a firewall. So there is a second try,
-- with a new one. A new connection that fails is not tried again.
local function decide(r, ...)
	local decision, err, connected

	if connection then
		decision, err = ask(...)
		if decision then
			return decision
		end
		r:notice("cmblock: connecting again: " .. err)
	end
	connected, err = connect(r:clock())
	if not connected then
		return nil, err
	end
	return ask(...)
end

-- ---------- the request ----------

local function answer(r, status, reason)
	r.err_headers_out["Cmblock-Reason"] = reason
	r:custom_response(status, "This request is refused: " .. reason .. "\n")
	r.notes["cmblock"] = reason
	return status
end

local function is_client_id(text)
	local hex = text:gsub("^[Gg][Uu][Ii][Dd]:", "")

	return #hex == 36 and hex:match("^%x+%-%x+%-%x+%-%x+%-%x+$") and hex:gsub("%x", "x") == "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
end

-- What the client is told is the reason's name. Who blocked it and why is for the log.
local function check(r, transport, certificate)
	local request = r.uri:match("^/([a-z_]+)%f[/\0]")
	local client = r.headers_in["Client-Id"]
	local hardware = r.headers_in["Client-Hardware-Id"]
	local decision, err

	if not REQUEST[request] then
		return answer(r, 404, "no_such_request")
	end
	if transport ~= "http" and (certificate or "") == "" then
		return answer(r, 403, "certificate_required")
	end
	if client and not is_client_id(client) then
		return answer(r, 400, "client_id_malformed")
	end
	if hardware and not hardware:match("^[\32-\126]+$") then
		return answer(r, 400, "hardware_id_malformed")
	end

	decision, err = decide(r, certificate, client, transport, request, hardware)
	if not decision then
		r:err("cmblock: no decision: " .. err)
		r.err_headers_out["Retry-After"] = "5"
		return answer(r, 503, "no_decision")
	end
	if decision.allowed ~= "t" then
		r:notice("cmblock: refused " .. request .. ": " .. decision.detail)
		return answer(r, 403, decision.reason)
	end
	r.notes["cmblock"] = "allowed"
	r.subprocess_env["CMBLOCK_CLIENT"] = decision.client or ""
	r.subprocess_env["CMBLOCK_ASSURANCE"] = decision.assurance
	return apache2.OK
end

local function pem(base64)
	return "-----BEGIN CERTIFICATE-----\n" .. base64:gsub(("."):rep(64), "%0\n") .. "\n-----END CERTIFICATE-----\n"
end

-- From nginx a certificate comes as PEM, URL-encoded; from HAProxy as DER in base64.
local function check_forwarded(r)
	local transport = r.headers_in["Forwarded-Transport"]
	local certificate = r.headers_in["Forwarded-Certificate"] or ""

	if transport ~= "http" and transport ~= "enhanced_http" and transport ~= "https" then
		return answer(r, 400, "transport_unknown")
	end
	if certificate:match("^[%w+/=]+$") then
		certificate = pem(certificate)
	else
		certificate = r:unescape(certificate)
	end
	if certificate ~= "" and not certificate:match("^%-+BEGIN CERTIFICATE%-+[%w+/=%s]+%-+END CERTIFICATE%-+%s*$") then
		return answer(r, 400, "certificate_malformed")
	end
	return check(r, transport, certificate ~= "" and certificate or nil)
end

-- Did the holder of the certificate's private key sign this? Raises an error if certificate or signature are none.
local function is_signed(certificate, signature, text)
	return x509.new(certificate, "PEM"):getPublicKey():verify(signature, digest.new("sha256"):update(text))
end

-- Without TLS, the headers bring a certificate (DER in base64), the time (seconds since 1970) and the signature
-- (hex) of the lines METHOD ADDRESS, Client-Id and Client-Time. A copied certificate is worth nothing without it.
local function check_signed(r)
	local client = r.headers_in["Client-Id"]
	local time = r.headers_in["Client-Time"] or ""
	local base64 = r.headers_in["Client-Certificate"] or ""
	local hex = r.headers_in["Client-Signature"] or ""
	local done, signed

	if not client or not base64:match("^[%w+/=]+$") or not hex:match("^%x+$") or not time:match("^%d+$") then
		return answer(r, 403, "signature_required")
	end
	if math.abs(os.time() - tonumber(time)) > SIGNED_WITHIN then
		return answer(r, 403, "signature_of_another_time")
	end
	done, signed = pcall(is_signed, pem(base64), hex:gsub("%x%x", function(octet) return string.char(tonumber(octet, 16)) end),
		r.method .. " " .. r.unparsed_uri .. "\n" .. client .. "\n" .. time .. "\n")
	if not done or not signed then
		return answer(r, 403, "signature_invalid")
	end
	return check(r, "http", pem(base64))
end

-- A mistake in this file must not let anybody in, either.
local function guarded(r, how, ...)
	local done, status = pcall(how, r, ...)

	if done then
		return status
	end
	r:err("cmblock: " .. tostring(status))
	return answer(r, 503, "no_decision")
end

function https(r)
	return guarded(r, check, "https", r:ssl_var_lookup("SSL_CLIENT_CERT"))
end

function enhanced_http(r)
	return guarded(r, check, "enhanced_http", r:ssl_var_lookup("SSL_CLIENT_CERT"))
end

function http(r)
	return guarded(r, check_signed)
end

function forwarded(r)
	return guarded(r, check_forwarded)
end

-- What forwarded let in is answered by this: yes, and nothing else.
function yes(r)
	r.status = 204
	return apache2.OK
end
