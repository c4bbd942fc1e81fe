-- Asks whether a request may be served. The rules of the frontend act on what it leaves in txn.cmblock_status: 204 is yes.
local URL = "http://127.0.0.1:8081/"

local function first(headers, name)
	return headers and headers[name] and headers[name][0] or ""
end

core.register_action("cmblock", { "http-req" }, function(txn)
	local headers = { ["forwarded-transport"] = { "https" } }
	local certificate = txn:get_var("txn.certificate")
	local client = txn.http:req_get_headers()["client-id"]
	local answer

	if certificate then
		headers["forwarded-certificate"] = { certificate }
	end
	if client then
		headers["client-id"] = { client[0] }
	end
	-- HAProxy tries four times, so this is 3 s in all
	answer = core.httpclient():get { url = URL .. txn:get_var("txn.request_kind"), headers = headers, timeout = 750 }

	txn:set_var("txn.cmblock_status", answer and answer.status or 503)
	txn:set_var("txn.cmblock_reason", first(answer and answer.headers, "cmblock-reason"))
	txn:set_var("txn.cmblock_client", first(answer and answer.headers, "cmblock-client"))
end)
